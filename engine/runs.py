"""Runs in a folder such as ckpt/: which there are, and finding one by the start of its name.

Does not import torch, so that mistakes are reported quickly.
"""

import glob
import os
import re

from engine.options import FILE_OPTIONS
from utils import UserError

FILES = (
    FILE_OPTIONS,
    "sound_best.pth",
)  # a folder with one of them is a run; downloaded networks lack options
MAX_NAMED = 10  # runs listed in an error
PUBLISHED_NAME = re.compile(r"(.*?)-?\d+mix-.*-epoch\d+-.*")


def title(folder):
    """A run's name in headings: of its folder, but of a published name only the part before the options."""
    name = os.path.basename(os.path.normpath(folder))
    match = PUBLISHED_NAME.fullmatch(name)
    return (match[1] or "unnamed run") if match else name


def list_runs(root):
    """The sorted names of the runs in the folder `root`."""
    paths = (path for name in FILES for path in glob.glob(os.path.join(glob.escape(root), "*", name)))
    return sorted({os.path.basename(os.path.dirname(path)) for path in paths})


def find_named(root, name):
    """The name of the folder `name` in `root`, or of the only run there whose name begins with it.

    Raises UserError, listing the runs that there are, if none or several fit.
    """
    if os.path.isdir(os.path.join(root, name)):
        return name
    names = list_runs(root)
    fitting = [other for other in names if other.startswith(name)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(f"several runs in {root} begin with {name}: {_listing(fitting)}")
    raise UserError(f"no run {name} in {root}: {f'found {_listing(names)}' if names else 'there are none'}")


def newest_run(root):
    """The run folder in `root` with the newest networks. Raises UserError if there is none."""
    paths = glob.glob(os.path.join(glob.escape(root), "*", "sound_best.pth"))
    if not paths:
        raise UserError(
            f"no trained networks in {root}: train some (./scripts/demo.sh), or name a folder (--ckpt)"
        )
    return os.path.dirname(max(paths, key=os.path.getmtime))


def _listing(names):
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
