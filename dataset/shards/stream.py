"""Reading shards one after another, for disks that seek slowly: an epoch passes groups of whole shards.

The shards of a group are read ahead from start to end, its clips come in random order, and mixtures are of
clips of one group. Which shards form a group is drawn anew in each pass over the clips.
"""

import contextlib
import os

import numpy as np

from dataset.shards.read import MEMBER
from utils import UserError

GROUP_STREAM = 5  # keeps these draws apart from others of the same seed and epoch


class Stream:
    """The groups of `count` shards, or a few more, of a list of clips.

    endless: an index n is of pass n // clips, see `engine.loaders.EpochSampler`; otherwise each epoch is a
    pass. Raises UserError, naming the clip, if one is in no shard.
    """

    def __init__(self, clips, count, seed, endless=False):
        self.count, self.seed, self.endless = count, seed, endless
        self.paths, self.shards = _shards_of(clips)
        self._pass = self._group = None  # those in use, in this process
        self._groups = self._members = None

    def groups(self, number):
        """int64 [clips]: the group of each clip in a pass, from 0 in the order of reading."""
        order = np.random.default_rng([self.seed, number, GROUP_STREAM]).permutation(len(self.paths))
        ranks = np.empty_like(order)
        ranks[order] = np.arange(len(order))
        last = max(1, len(order) // self.count) - 1  # also has the shards that are left
        return np.minimum(ranks // self.count, last)[self.shards]

    def sort(self, order, number):
        """Sort indices [length] of a pass by group, and keep their order within each."""
        groups = self.groups(number)[np.asarray(order) % len(self.shards)]
        return order[np.argsort(groups, kind="stable")]

    def members(self, index, epoch):
        """The sorted numbers of the clips in the group of an index: int64. A new group is read ahead."""
        number = index // len(self.shards) if self.endless else epoch
        if number != self._pass:
            self._pass, self._group, self._groups = number, None, self.groups(number)
        group = self._groups[index % len(self.shards)]
        if group != self._group:
            self._group, self._members = group, np.flatnonzero(self._groups == group)
            for shard in np.unique(self.shards[self._members]):
                _read_ahead(self.paths[shard])
        return self._members


def _shards_of(clips):
    """The paths of the shards, and int32 [clips]: the number of each clip's."""
    known, numbers = {}, np.empty(len(clips), np.int32)
    for number, clip in enumerate(clips):
        member = MEMBER.fullmatch(clip.path_audio)
        if member is None:
            raise UserError(f"{clip.path_audio}: --stream_shards needs clips in shards, as in a.tar/b.wav")
        numbers[number] = known.setdefault(member[1], len(known))
    return list(known), numbers


def _read_ahead(path):
    """Ask the system to read a file from start to end into its cache, where it can."""
    with contextlib.suppress(OSError, AttributeError):  # on a server; macOS has no posix_fadvise
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(handle)
