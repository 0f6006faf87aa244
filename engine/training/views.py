"""Features of a frozen backbone: computed once, for a fixed number of views of each training clip.

They are computed before the first epoch and when a run is resumed, and depend only on (seed, clip, view).
"""

from torch.utils.data import DataLoader, Dataset

from utils import UserError, progress

MAX_BYTES = 2**31  # of features in memory


class _Clips(Dataset):
    """Per clip (number, views uint8 [V, 3, T, H, W] or None, reason why there are none)."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset.clips)

    def __getitem__(self, number):
        try:
            return number, self.dataset.view_clip(number), ""
        except UserError as error:
            return number, None, str(error)


def keep_views(separator, dataset, device, workers=0):
    """Half-precision features [clips * views, K, t, h, w] of all views, on `device`.

    Clips with unreadable frames are added to `dataset.unreadable`. Raises UserError if all are, or if the
    features need more than MAX_BYTES.
    """
    separator.eval()
    loader = DataLoader(_Clips(dataset), batch_size=None, num_workers=workers)
    kept = None
    for number, views, reason in progress(loader, desc="features of frames", unit="clip"):
        if views is None:
            dataset.unreadable[number] = reason
            continue
        features = separator.backbone_features(views[None].to(device))[0]
        if kept is None:
            _check_size(features, len(dataset.clips))
            kept = features.new_zeros(len(dataset.clips), *features.shape)
        kept[number] = features
    if kept is None:
        raise UserError(f"the frames of all clips are unreadable, e.g. {dataset.unreadable[0]}")
    return kept.flatten(0, 1)


def _check_size(features, num_clips):
    """Raise UserError if the features of all clips are too large; `features`: of one clip, a row per view."""
    size = features.nbytes * num_clips
    if size > MAX_BYTES:
        raise UserError(
            f"--num_views {len(features)}: features of {num_clips} clips need {size / 2**30:.1f} GiB, more "
            f"than {MAX_BYTES / 2**30:.0f}: choose {len(features) * MAX_BYTES // size} or fewer; 0 computes "
            "them at every step"
        )
