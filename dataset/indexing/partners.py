"""Which clips may be mixed with those picked so far; draws one of them in the same time for any list."""

import functools
from typing import NamedTuple

import numpy as np

KINDS = {"category": ("category", "video"), "video": ("video",), "original": ()}  # by the option `pairs`


class _Kind(NamedTuple):
    """Clips by their label of one kind, e.g. by category."""

    labels: np.ndarray  # int32 [clips]
    order: np.ndarray  # int32 [clips]: clip numbers sorted by label, then by number
    starts: np.ndarray  # int64 [labels + 1]: where each label's clips start in `order`

    def members(self, label):
        """The sorted numbers of the clips with a label."""
        return self.order[self.starts[label] : self.starts[label + 1]]


class Partners:
    """The clips of a list by category and video; clips that share either are not mixed.

    clips: a list of `dataset.index.Clip` or a `ClipTable`; pairs: a key of KINDS, which says what differs.
    """

    def __init__(self, clips, pairs):
        self.count = len(clips)
        labels = getattr(clips, "labels", None) or functools.partial(_labels, clips)
        self.kinds = {kind: _group(labels(kind)) for kind in KINDS[pairs]}

    def num_labels(self):
        """{kind: how many different categories or videos there are}."""
        return {kind: len(group.starts) - 1 for kind, group in self.kinds.items()}

    def draw(self, picked, failed, rng):
        """A random clip that may be mixed with the clips `picked`, none of `failed`; None if there is none.

        Draws what `rng.choice` draws from the sorted array of such clips, without making the array.
        """
        barred = self._barred(picked, failed)
        allowed = self.count - sum(map(len, barred))
        return self._find(int(rng.integers(allowed)), barred) if allowed else None

    def _barred(self, picked, failed):
        """Sorted arrays without common numbers: the clips that may not be drawn."""
        arrays, single = [], np.array(failed, np.int64)
        kinds = list(self.kinds.values())
        if kinds:
            arrays = [kinds[0].members(label) for label in {kinds[0].labels[number] for number in picked}]
        for kind in kinds[1:]:  # videos: few clips each
            members = [kind.members(label) for label in {kind.labels[number] for number in picked}]
            single = np.concatenate([single, *members])
        if kinds:
            single = single[~np.isin(kinds[0].labels[single], kinds[0].labels[picked])]
        return [*arrays, np.unique(single)]

    def _find(self, rank, barred):
        """The number of the clip that has `rank` allowed clips before it: by bisection."""
        low, high = rank, self.count - 1
        while low < high:
            middle = (low + high) // 2
            before = sum(int(numbers.searchsorted(middle, side="right")) for numbers in barred)
            if middle + 1 - before > rank:
                high = middle
            else:
                low = middle + 1
        return low


def _labels(clips, kind):
    """int32 [clips]: a number for each label, from 0, in the order in which they first appear."""
    known = {}
    labels = (clip.category if kind == "category" else clip.id for clip in clips)
    return np.fromiter((known.setdefault(label, len(known)) for label in labels), np.int32, len(clips))


def _group(labels):
    """The `_Kind` of labels [clips]."""
    counts = np.bincount(labels)
    return _Kind(labels, np.argsort(labels, kind="stable").astype(np.int32), np.append(0, counts.cumsum()))
