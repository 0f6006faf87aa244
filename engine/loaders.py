"""Data loaders of training and validation mixtures; each process loads its share."""

import logging

import numpy as np
import torch
from torch.utils.data import DataLoader

from dataset.fixed import is_long, protocol_mixtures, read_fixed
from dataset.index import read_index
from dataset.indexing.labels import beside, read_labels
from dataset.indexing.mixture_table import MixtureTable
from dataset.indexing.mixtures import draw_same, without_partners
from dataset.indexing.partners import label_sets
from dataset.indexing.table import ClipTable, open_index
from dataset.music import MUSICMixDataset, collate
from dataset.shards.stream import Stream
from engine.build import build_sampling
from engine.machine import distributed
from engine.options import batch_size, frozen_epochs, is_same, kept_views, path_val
from engine.processes.children import prepare_loader
from utils import UserError

PASS_STREAM = 3  # separates the orders of passes from those of epochs
SAMPLER_PART = 4096  # indices converted to Python numbers at a time
NUM_NAMED = 5  # clips listed in a warning

logger = logging.getLogger(__name__)


def build_train_loader(args):
    """Batches of training mixtures, in an order that depends only on seed and epoch; see `start_epoch`.

    Each process loads its share of every batch. Raises UserError if a batch is larger than an epoch.
    """
    dataset = _build_dataset(
        args.list_train,
        args,
        train=True,
        pairs=args.mix_pairs,
        repeats=args.dup_trainset,
        semitones=args.augment_speed,
        views=kept_views(args),
        view_epochs=frozen_epochs(args),
    )
    length = args.samples_per_epoch or len(dataset)
    if length < batch_size(args):
        flag = "--samples_per_epoch" if args.samples_per_epoch else "--dup_trainset"
        raise UserError(
            f"{args.list_train}: batch size {batch_size(args)} exceeds the epoch's {length} samples: "
            f"lower --batch_size_per_gpu or raise {flag}"
        )
    num_clips = len(dataset.clips) if args.samples_per_epoch else 0
    if args.stream_shards:
        endless = args.samples_per_epoch > 0
        dataset.stream = Stream(dataset.clips, args.stream_shards, args.seed, endless)
    sampler = EpochSampler(length, batch_size(args), num_clips, dataset.stream)
    return DataLoader(dataset, sampler=sampler, drop_last=True, **_loader_options(args))


class EpochSampler:
    """This process's share of an epoch: every world_size-th example of a shuffled epoch.

    num_clips: 0, or the epochs are parts of one endless sequence of shuffled passes over so many clips, and
    each epoch begins where the last one ended. Example n of the sequence is clip n % num_clips. stream: a
    `Stream`, by whose groups of shards each pass is sorted, or None.
    """

    def __init__(self, length, joint_batch, num_clips=0, stream=None):
        self.length = length
        self.joint_batch = joint_batch
        self.num_clips = num_clips
        self.stream = stream
        self.used = length - length % joint_batch
        self.skipped = 0  # joint batches at the epoch's start, see `start_epoch`
        self.seed, self.epoch = 0, 1  # the same in all processes, see `start_epoch`

    def __iter__(self):
        left = self._order()[self.skipped * self.joint_batch :]
        mine = left[distributed.rank() :: distributed.world_size()]
        # In chunks: a list of the millions of examples of a large index takes 0.5 GB.
        return (number for part in mine.split(SAMPLER_PART) for number in part.tolist())

    def __len__(self):
        return self.used // distributed.world_size()

    def _order(self):
        """The examples of the epoch, in all processes: [used]."""
        if not self.num_clips:
            order = _shuffled(self.length, [self.seed, self.epoch])[: self.used]
            return self.stream.sort(order, self.epoch) if self.stream else order
        start = (self.epoch - 1) * self.used
        first, last = start // self.num_clips, (start + self.used - 1) // self.num_clips
        passes = [self._pass(number) for number in range(first, last + 1)]
        return torch.cat(passes)[start - first * self.num_clips :][: self.used]

    def _pass(self, number):
        """The examples of a pass of the endless sequence: [num_clips]."""
        order = _shuffled(self.num_clips, [self.seed, number, PASS_STREAM]).long()
        order = self.stream.sort(order, number) if self.stream else order
        return number * self.num_clips + order


def _shuffled(count, words):
    """The numbers below `count` in an order that depends only on the numbers `words`: int32 [count]."""
    seed = np.random.SeedSequence(words).generate_state(1)[0]
    generator = torch.Generator().manual_seed(int(seed))
    return torch.randperm(count, generator=generator, dtype=torch.int32)


def start_epoch(loader, epoch, skipped=0):
    """Make a training loader draw the examples and the order of `epoch`, without its first batches.

    The loader's length stays that of a whole epoch.
    """
    loader.dataset.set_epoch(epoch)
    loader.sampler.skipped = skipped
    loader.sampler.seed, loader.sampler.epoch = loader.dataset.seed, epoch


def build_val_loader(args):
    """Batches of the fixed validation mixtures, in the order of the list; each process loads its share.

    Mixtures with clips that are gone are left out, see `dataset.fixed`. In evaluation, not in training, clips
    come with their checksums.
    """
    checksums = args.mode == "eval"
    if args.protocol or args.list_val_mix or is_same(args):
        dataset = _build_fixed_dataset(args, checksums)
    else:
        dataset = _build_dataset(
            args.list_val,
            args,
            train=False,
            pairs=args.val_pairs,
            max_items=args.num_val,
            checksums=checksums,
        )
    gone = dataset.gone
    there = [index for index in range(len(dataset)) if index not in gone]
    part = there[distributed.rank() :: distributed.world_size()]
    return DataLoader(dataset, sampler=part, **_loader_options(args))


def _build_dataset(path, args, **options):
    try:
        clips = open_index(path)
        if isinstance(clips, ClipTable):
            labels = clips.label_sets
        else:
            labels = label_sets(clips, read_labels(beside(path), {clip.id for clip in clips}))
        return MUSICMixDataset(clips, build_sampling(args), seed=args.seed, labels=labels, **options)
    except UserError as error:
        message = str(error)
        raise UserError(message if path in message else f"{path}: {message}") from None


def _fixed_mixtures(args):
    """(clips, mixtures) of --protocol, --list_val_mix or --val_pairs same, up to --num_val.

    A mixture is a tuple of numbers of clips. Raises UserError unless they are mixtures of --num_mix clips.
    """
    path, roots = path_val(args), (args.root_audio, args.root_frame)
    most = args.num_val if args.num_val > 0 else None
    if args.list_val_mix and not most and is_long(path):
        mixtures = MixtureTable(path)
        _check_num_mix(path, len(mixtures[0]), args)
        return mixtures.clips, mixtures
    if args.protocol:
        mixtures = protocol_mixtures(path, *roots)
    elif args.list_val_mix:
        mixtures = read_fixed(path, *roots, most)
    else:
        mixtures = _same_category(path, args)
    _check_num_mix(path, max(map(len, mixtures)), args)
    mixtures = mixtures[:most]
    clips = list(dict.fromkeys(clip for mixture in mixtures for clip in mixture))
    numbers = {clip: number for number, clip in enumerate(clips)}
    return clips, [tuple(numbers[clip] for clip in mixture) for mixture in mixtures]


def _check_num_mix(path, found, args):
    if found != args.num_mix:
        raise UserError(f"{path}: expected mixtures of {args.num_mix} clips (--num_mix), found {found}")


def _same_category(path, args):
    clips = read_index(path)
    alone, mixtures = without_partners(clips, args.num_mix), draw_same(clips, args.num_mix, args.seed)
    names = ", ".join(sorted({clip.category for clip in alone}))
    if not mixtures:
        raise UserError(f"{path}: --val_pairs same needs {args.num_mix} videos of a category, found {names}")
    if alone:
        logger.warning(
            "%s: %d clips are left out: fewer than %d videos of %s", path, len(alone), args.num_mix, names
        )
    return mixtures


def left_out(args, dataset):
    """Counts of what an evaluation leaves out: mixtures with clips that are gone; clips without partners."""
    counts = {"num_gone": len(dataset.gone)}
    if is_same(args):
        counts["num_clips_alone"] = len(without_partners(read_index(args.list_val), args.num_mix))
    return counts


def _build_fixed_dataset(args, checksums):
    """A data set of fixed mixtures; warns of those that are gone."""
    clips, mixtures = _fixed_mixtures(args)
    dataset = MUSICMixDataset(
        clips, build_sampling(args), train=False, seed=args.seed, mixtures=mixtures, checksums=checksums
    )
    if dataset.gone:
        gone = [clip.name for clip in clips if not clip.num_frames]
        logger.warning(
            "%s: %d of %d mixtures are left out: %d clips are gone, e.g. %s",
            *(path_val(args), len(dataset.gone), len(dataset), len(gone), ", ".join(gone[:NUM_NAMED])),
        )
    return dataset


def _loader_options(args):
    return {
        "batch_size": batch_size(args) // distributed.world_size(),
        "num_workers": args.workers,
        "collate_fn": collate,
        "pin_memory": args.num_gpus > 0,
        "persistent_workers": args.workers > 0,
        "worker_init_fn": prepare_loader,
    }
