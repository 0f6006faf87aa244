"""Which clips may be mixed with those picked so far; draws one of them in the same time for any list."""

from bisect import bisect_right
from typing import NamedTuple

import numpy as np

KINDS = {"category": ("category", "video"), "video": ("video",), "original": ()}  # by the option `pairs`
MAX_TRIES = 100  # draws among all clips before those that may be drawn are listed


class LabelSets(NamedTuple):
    """The labels of the clips of a list, as numbers from 0."""

    starts: np.ndarray  # int64 [clips + 1]: where each clip's labels start in `values`
    values: np.ndarray  # int32


class _Kind(NamedTuple):
    """Clips by their labels of one kind, e.g. by category."""

    labels: np.ndarray  # int32: the labels of the first clip, of the second …
    places: np.ndarray | None  # int64 [clips + 1]: where each clip's labels start; None: one label per clip
    order: np.ndarray  # int32: clip numbers sorted by label, then by number
    starts: np.ndarray  # int64 [labels + 1]: where each label's clips start in `order`

    def of(self, number):
        """The labels of a clip, without repeats."""
        if self.places is None:
            return self.labels[number : number + 1]
        return self.labels[self.places[number] : self.places[number + 1]]

    def members(self, label):
        """The sorted numbers of the clips with a label."""
        return self.order[self.starts[label] : self.starts[label + 1]]


class Partners:
    """The clips of a list by category and video; clips that share either are not mixed.

    clips: a list of `dataset.index.Clip` or a `ClipTable`; pairs: a key of KINDS, which says what differs;
    sets: `LabelSets` of the clips, whose labels take the place of categories, or None. It may go on after the
    last clip.
    """

    def __init__(self, clips, pairs, sets=None):
        self.count = len(clips)
        self.kinds = {kind: _group(_labels(clips, kind)) for kind in KINDS[pairs]}
        if sets and "category" in self.kinds:
            self.kinds["category"] = _group_sets(sets, self.count)
        self.has_sets = any(kind.places is not None for kind in self.kinds.values())

    def num_labels(self):
        """{kind: how many different categories or videos there are}."""
        return {kind: int(np.count_nonzero(np.diff(group.starts))) for kind, group in self.kinds.items()}

    def draw(self, picked, failed, rng, among=None):
        """A random clip that may be mixed with the clips `picked`, none of `failed`; None if there is none.

        among: the numbers of the clips to draw from, an array; None: all. If these have one label each, draws
        what `rng.choice` draws from the sorted array of such clips, without making the array.
        """
        if among is not None or self.has_sets:
            return self._draw_by_trial(picked, failed, rng, among)
        barred = self._barred(picked, failed)
        allowed = self.count - sum(map(len, barred))
        return _find(int(rng.integers(allowed)), barred) if allowed else None

    def _draw_by_trial(self, picked, failed, rng, among):
        """See `draw`: of a part, or with several labels a clip, those allowed cannot be counted at once."""
        taken = [(kind, {*map(int, kind.of(one))}) for kind in self.kinds.values() for one in picked]
        for _ in range(MAX_TRIES):
            number = int(rng.integers(self.count) if among is None else rng.choice(among))
            fits = all(labels.isdisjoint(kind.of(number).tolist()) for kind, labels in taken)
            if fits and number not in failed:
                return number
        barred = [np.array(failed, np.int64)]
        barred += [kind.members(label) for kind, labels in taken for label in labels]
        allowed = np.setdiff1d(np.arange(self.count) if among is None else among, np.concatenate(barred))
        return int(rng.choice(allowed)) if len(allowed) else None

    def _barred(self, picked, failed):
        """Sorted sequences without common numbers: the clips that may not be drawn."""
        kinds = list(self.kinds.values())
        if not kinds:
            return [sorted({*failed})]
        first, labels = kinds[0], {int(kinds[0].labels[number]) for number in picked}
        single = {*failed}
        for kind in kinds[1:]:  # videos: few clips each
            for label in {int(kind.labels[number]) for number in picked}:
                single.update(kind.members(label).tolist())
        return [
            *(memoryview(first.members(label)) for label in labels),
            sorted(number for number in single if int(first.labels[number]) not in labels),
        ]


def _find(rank, barred):
    """The number at place `rank`, from 0, of the line of all numbers but `barred`.

    barred: sorted sequences without common numbers. By bisection: about as fast for any list.
    """
    for position in reversed(range(len(barred))):  # put one sequence after the other back into the line
        rank += _count_before(rank, barred[position], barred[:position])
    return rank


def _count_before(rank, numbers, others):
    """How many of the sorted `numbers` belong before place `rank` of the line without them and `others`.

    Not numpy's searchsorted, which first converts all of an int32 array for a Python number.
    """

    def place_of(position):
        number = numbers[position]
        return number - position - sum(bisect_right(other, number) for other in others)

    return bisect_right(range(len(numbers)), rank, key=place_of)


def group_by(clips, kind):
    """The sorted numbers of the clips of each category or video, in the order in which these first appear.

    clips: a list of `dataset.index.Clip` or a `ClipTable`; kind: "category" or "video".
    """
    group = _group(_labels(clips, kind))
    return [group.members(label) for label in range(len(group.starts) - 1)]


def _labels(clips, kind):
    """int32 [clips]: a number for each label, from 0, in the order in which they first appear."""
    if hasattr(clips, "labels"):
        return clips.labels(kind)
    known = {}
    labels = (clip.category if kind == "category" else clip.video for clip in clips)
    return np.fromiter((known.setdefault(label, len(known)) for label in labels), np.int32, len(clips))


def _group(labels):
    """The `_Kind` of labels [clips]."""
    counts = np.bincount(labels)
    order = np.argsort(labels, kind="stable").astype(np.int32)
    return _Kind(labels, None, order, np.append(0, counts.cumsum()))


def _group_sets(sets, count):
    """The `_Kind` of the `LabelSets` of the first `count` clips."""
    places = np.asarray(sets.starts[: count + 1])
    group = _group(np.asarray(sets.values[: places[-1]]))
    sizes = np.diff(places)
    if np.all(sizes == 1):
        return group
    numbers = np.repeat(np.arange(count, dtype=np.int32), sizes)
    return group._replace(places=places, order=numbers[group.order])


class SetBuilder:
    """Collects the `LabelSets` of clips. table: as `dataset.indexing.labels.read_labels` returns it."""

    def __init__(self, table):
        self._table, self._numbers = table, {}
        self._starts, self._values = [0], []

    def add(self, clip):
        """Add a clip's labels."""
        entry = self._table.get(clip.id)
        labels = (entry and entry.labels) or (clip.category,)
        numbers = (self._numbers.setdefault(label, len(self._numbers)) for label in dict.fromkeys(labels))
        self._values += numbers
        self._starts.append(len(self._values))

    def sets(self):
        """The `LabelSets` of the clips added so far."""
        return LabelSets(np.array(self._starts, np.int64), np.array(self._values, np.int32))


def label_sets(clips, table):
    """The `LabelSets` of clips, an iterable of `Clip`; None without a table."""
    if not table:
        return None
    builder = SetBuilder(table)
    for clip in clips:
        builder.add(clip)
    return builder.sets()
