"""Features of a frozen backbone: computed once, for a fixed number of views of each training clip.

They depend only on (seed, clip, view) and the backbone. They are computed before the first epoch and when a
run is resumed, or kept in a file for all runs that need the same.
"""

import hashlib
import logging
import os

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from dataset.shards.read import path_on_disk
from engine.machine import distributed
from engine.processes.children import prepare_loader
from utils import UserError, progress, replacing

MAX_BYTES = 2**31  # of features in memory
DTYPE = np.dtype("<f2")  # of features in a file

logger = logging.getLogger(__name__)


class _Clips(Dataset):
    """Per clip (number, views uint8 [V, 3, T, H, W] or None, reason why there are none)."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset.clips)

    def __getitem__(self, number):
        try:
            views = self.dataset.view_clip(number)
            if (
                get_worker_info()
            ):  # fails here if memory is short; the thread that sends it would only complain
                views.share_memory_()
            return number, views, ""
        except UserError as error:
            return number, None, str(error)


def keep_views(separator, dataset, device, workers=0, folder=""):
    """Half-precision features [clips * views, K, t, h, w] of all views.

    They are on `device`, at most MAX_BYTES; with a `folder`, they are in a memory-mapped file there, which is
    written unless it exists. Clips with unreadable frames are added to `dataset.unreadable`. Raises UserError
    if all are, or if the features need too much memory.
    """
    if folder:
        return _keep_in_file(separator, dataset, device, workers, folder)
    kept = None
    for number, features in _compute(separator, dataset, device, workers):
        if kept is None:
            _check_size(features, len(dataset.clips))
            kept = features.new_zeros(len(dataset.clips), *features.shape)
        kept[number] = features
    return kept.flatten(0, 1)


def _compute(separator, dataset, device, workers):
    """Yield (number, features [V, K, t, h, w]) of the readable clips in the order of the list."""
    separator.eval()
    loader = DataLoader(_Clips(dataset), batch_size=None, num_workers=workers, worker_init_fn=prepare_loader)
    for number, views, reason in progress(loader, desc="features of frames", unit="clip"):
        if views is None:
            dataset.unreadable[number] = reason
        else:
            yield number, separator.backbone_features(views[None].to(device))[0]
    if len(dataset.unreadable) == len(dataset.clips):
        raise UserError(f"the frames of all clips are unreadable, e.g. {dataset.unreadable[0]}")


def _check_size(features, num_clips):
    """Raise UserError if the features of all clips are too large; `features`: of one clip, a row per view."""
    size = features.nbytes * num_clips
    if size > MAX_BYTES:
        most = len(features) * MAX_BYTES // size
        choice = f"choose {most} or fewer; 0 computes" if most else "choose 0, which computes"
        raise UserError(
            f"--num_views {len(features)}: features of {num_clips} clips need {size / 2**30:.1f} GiB, more "
            f"than {MAX_BYTES / 2**30:.0f}: {choice} them at every step, or keep them on disk: --views_dir"
        )


def _keep_in_file(separator, dataset, device, workers, folder):
    path = os.path.join(folder, f"views-{_fingerprint(separator, dataset)}.npy")
    if distributed.is_main() and not _is_whole(path, dataset):
        _write(path, _compute(separator, dataset, device, workers), len(dataset.clips))
    distributed.gather(path)  # the others wait for rank 0
    kept = np.lib.format.open_memmap(path, mode="c")  # torch wants an array that may be written
    for number in np.flatnonzero(np.isnan(kept[:, 0, 0, 0, 0, 0])):
        dataset.unreadable.setdefault(int(number), f"its frames were unreadable when {path} was written")
    return torch.from_numpy(kept).flatten(0, 1)


def _write(path, rows, num_clips):
    """Write an array [clips, V, K, t, h, w] of `_compute`'s rows, NaN where there are none."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        written = 0
        for number, features in rows:
            row = features.cpu().numpy().astype(DTYPE)
            if not written:
                header = {"descr": DTYPE.str, "fortran_order": False, "shape": (num_clips, *row.shape)}
                np.lib.format.write_array_header_1_0(file, header)
                unreadable = np.full_like(row, np.nan).tobytes()
            file.write(unreadable * (number - written) + row.tobytes())
            written = number + 1
        file.write(unreadable * (num_clips - written))


def _is_whole(path, dataset):
    """True if the file has features of all views; says so if there is a file that has not."""
    try:
        found = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        logger.warning("%s is damaged, its features are computed again: %s", path, error)
        return False
    wanted = len(dataset.clips), dataset.views
    if found.ndim == 6 and found.dtype == DTYPE and found.shape[:2] == wanted:
        logger.info("features of frames are read from %s", path)
        return True
    logger.warning("%s has no features of %d clips and %d views: computed again", path, *wanted)
    return False


def _fingerprint(separator, dataset):
    """A name for all that features depend on: the backbone, how views are drawn, and the clips' frames."""
    net = separator.net_frame
    clips = [(clip.path_frames, clip.num_frames, _changed(clip.path_frames)) for clip in dataset.clips]
    settings = dataset.seed, dataset.views, dataset.sampling, separator.settings.amp
    form = repr(net.features), net.mean_rgb, net.std_rgb, net.pool_type, net.fc.kernel_size
    digest = hashlib.sha256(repr((settings, form, clips)).encode("utf-8", "surrogateescape"))
    for value in net.features.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _changed(folder):
    """When files of a folder, or its shard, last changed, in nanoseconds; None if it is not on disk."""
    path = path_on_disk(folder)
    return os.stat(path).st_mtime_ns if os.path.exists(path) else None
