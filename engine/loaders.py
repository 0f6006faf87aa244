"""Data loaders of training and validation mixtures; each process loads its share."""

import numpy as np
import torch
from torch.utils.data import DataLoader

from dataset.index import read_index, read_mixtures
from dataset.music import MUSICMixDataset, collate
from engine.build import build_sampling
from engine.machine import distributed
from engine.machine.stop import leave_to_trainer
from engine.options import batch_size, frozen_epochs, kept_views
from utils import UserError

SAMPLER_PART = 4096  # indices converted to Python numbers at a time


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
    if len(dataset) < batch_size(args):
        raise UserError(
            f"{args.list_train}: batch size {batch_size(args)} exceeds the epoch's {len(dataset)} samples: "
            "lower --batch_size_per_gpu or raise --dup_trainset"
        )
    sampler = EpochSampler(len(dataset), batch_size(args))
    return DataLoader(dataset, sampler=sampler, drop_last=True, **_loader_options(args))


class EpochSampler:
    """This process's share of an epoch: every world_size-th example of a shuffled epoch."""

    def __init__(self, length, joint_batch):
        self.length = length
        self.joint_batch = joint_batch
        self.used = length - length % joint_batch
        self.skipped = 0  # joint batches at the epoch's start, see `start_epoch`
        self.generator = torch.Generator()  # with the same seed in all processes, see `start_epoch`

    def __iter__(self):
        order = torch.randperm(self.length, generator=self.generator, dtype=torch.int32)[: self.used]
        left = order[self.skipped * self.joint_batch :]
        mine = left[distributed.rank() :: distributed.world_size()]
        # In chunks: a list of the millions of examples of a large index takes 0.5 GB.
        return (number for part in mine.split(SAMPLER_PART) for number in part.tolist())

    def __len__(self):
        return self.used // distributed.world_size()


def start_epoch(loader, epoch, skipped=0):
    """Make a training loader draw the examples and the order of `epoch`, without its first batches.

    The loader's length stays that of a whole epoch.
    """
    loader.dataset.set_epoch(epoch)
    loader.sampler.skipped = skipped
    seed = np.random.SeedSequence([loader.dataset.seed, epoch]).generate_state(1)[0]
    loader.sampler.generator.manual_seed(int(seed))


def build_val_loader(args):
    """Batches of the fixed validation mixtures, in the order of the list; each process loads its share."""
    if args.list_val_mix:
        dataset = _build_fixed_dataset(args.list_val_mix, args)
    else:
        dataset = _build_dataset(
            args.list_val, args, train=False, pairs=args.val_pairs, max_items=args.num_val
        )
    part = range(distributed.rank(), len(dataset), distributed.world_size())
    return DataLoader(dataset, sampler=part, **_loader_options(args))


def _build_dataset(path, args, **options):
    try:
        return MUSICMixDataset(read_index(path), build_sampling(args), seed=args.seed, **options)
    except UserError as error:
        message = str(error)
        raise UserError(message if path in message else f"{path}: {message}") from None


def _build_fixed_dataset(path, args):
    """A data set of the mixtures in a mixture list."""
    mixtures = read_mixtures(path)
    num_mix = len(mixtures[0])
    if num_mix != args.num_mix:
        raise UserError(f"{path}: expected mixtures of {args.num_mix} clips (--num_mix), found {num_mix}")
    mixtures = mixtures[: args.num_val] if args.num_val > 0 else mixtures
    clips = list(dict.fromkeys(clip for mixture in mixtures for clip in mixture))
    numbers = {clip: number for number, clip in enumerate(clips)}
    mixtures = [tuple(numbers[clip] for clip in mixture) for mixture in mixtures]
    return MUSICMixDataset(clips, build_sampling(args), train=False, seed=args.seed, mixtures=mixtures)


def _loader_options(args):
    return {
        "batch_size": batch_size(args) // distributed.world_size(),
        "num_workers": args.workers,
        "collate_fn": collate,
        "pin_memory": args.num_gpus > 0,
        "persistent_workers": args.workers > 0,
        "worker_init_fn": leave_to_trainer,
    }
