"""Imported before other packages: if one of them is missing, the error is a line that says how to get it."""

import os
import sys
import traceback

PROJECT = os.path.dirname(os.path.abspath(__file__))
HINT = "run ./scripts/install.sh once, then in each shell: source .venv/bin/activate"


def explain(kind, error, trace):
    """An excepthook: one line if a file of this project imports a package that is not installed."""
    if issubclass(kind, ModuleNotFoundError) and not _is_ours(error.name) and _imported_by_us(trace):
        print(f"error: {sys.executable} has no package {error.name}: {HINT}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _is_ours(module):
    path = os.path.join(PROJECT, (module or "").partition(".")[0])
    return os.path.isdir(path) or os.path.isfile(path + ".py")


def _imported_by_us(trace):
    """Whether the import statement that failed is in this project, not in a package."""
    files = [frame.filename for frame in traceback.extract_tb(trace) if not frame.filename.startswith("<")]
    path = os.path.abspath(files[-1]) if files else ""
    return path.startswith(PROJECT + os.sep) and "site-packages" not in path


sys.excepthook = explain
