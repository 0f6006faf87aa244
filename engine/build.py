"""From options to networks, optimiser and loaders."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from arguments import batch_size
from dataset.index import read_index, read_mixtures
from dataset.music import MUSICMixDataset, Sampling, collate
from engine import distributed
from models import build_criterion, build_frame, build_sound, build_synthesizer
from models.separator import Separator, Settings, choose_amp
from utils import UserError

SAMPLER_PART = 4096  # examples of an epoch that are numbers of Python at a time


def build_separator(args, weights=None, pretrained="none"):
    """The networks of `args` in one module, on the CPU.

    weights: {"sound": file, "frame": file, "synthesizer": file}, each may be "" for first weights.
    pretrained: where the ResNet starts from, see `models.build_frame`.
    """
    files = weights or {"sound": "", "frame": "", "synthesizer": ""}
    torch.manual_seed(args.seed)
    net_sound = build_sound(args.arch_sound, args.num_channels, files["sound"], args.ngf, args.init_sound)
    net_frame = build_frame(
        args.arch_frame, args.num_channels, args.img_pool, files["frame"], pretrained, args.img_norm
    )
    net_synthesizer = build_synthesizer(args.arch_synthesizer, args.num_channels, files["synthesizer"])
    settings = Settings(
        binary_mask=bool(args.binary_mask),
        mask_thres=args.mask_thres,
        weighted_loss=bool(args.weighted_loss),
        log_freq=bool(args.log_freq),
        img_activation=args.img_activation,
        sound_activation=args.sound_activation,
        output_activation=args.output_activation,
        stft_frame=args.stft_frame,
        stft_hop=args.stft_hop,
        amp=choose_amp(args.amp, "cuda" if args.num_gpus else "cpu"),
    )
    separator = Separator(net_sound, net_frame, net_synthesizer, build_criterion(args.loss), settings)
    if args.compile:
        separator.compile_networks()
    return separator


def parallelize(separator, num_gpus):
    """(module to call, its device): the separator itself, or a DataParallel over several GPUs.

    For training under torchrun see `distributed.share_gradients` too.
    """
    device = distributed.choose_device(num_gpus)
    separator.to(device)
    return (nn.DataParallel(separator, list(range(num_gpus))) if num_gpus > 1 else separator), device


def build_optimizer(args, separator):
    """SGD or AdamW with the published groups of rates: the ResNet's, and the sound's for all around it."""
    net_frame = separator.net_frame
    head = [*net_frame.fc.parameters(), *net_frame.norm.parameters()]
    groups = [
        {"params": list(separator.net_sound.parameters()), "lr": args.lr_sound},
        {"params": list(separator.net_synthesizer.parameters()), "lr": args.lr_synthesizer},
        {"params": list(net_frame.features.parameters()), "lr": args.lr_frame},
        {"params": head, "lr": args.lr_sound},
    ]
    for group in groups:
        group["first_lr"] = group["lr"]
    if args.optimizer == "adamw":
        return torch.optim.AdamW(
            groups, betas=(args.beta1, 0.999), weight_decay=args.weight_decay, fused=True
        )
    # Not fused: with fp16, whose first steps overflow, torch's fused SGD begins from memory never written to.
    return torch.optim.SGD(groups, momentum=args.beta1, weight_decay=args.weight_decay)


def build_sampling(args):
    """What `args` say about an example."""
    return Sampling(
        num_mix=args.num_mix,
        num_frames=args.num_frames,
        stride_frames=args.stride_frames,
        frame_rate=args.frameRate,
        img_size=args.imgSize,
        aud_len=args.audLen,
        aud_rate=args.audRate,
    )


def build_train_loader(args):
    """Batches of training mixtures, in an order that depends on seed and epoch alone; see `start_epoch`.

    Of several processes each has its part of every joint batch.
    """
    dataset = _build_dataset(
        args.list_train, args, train=True, pairs=args.mix_pairs, repeats=args.dup_trainset
    )
    if len(dataset) < batch_size(args):
        raise UserError(
            f"{args.list_train}: {len(dataset.clips)} clips in {args.dup_trainset} rounds (--dup_trainset) "
            f"are fewer than the {batch_size(args)} of a batch"
        )
    sampler = EpochSampler(len(dataset), batch_size(args))
    return DataLoader(dataset, sampler=sampler, drop_last=True, **_loader_options(args))


class EpochSampler:
    """This process's part of an epoch: of each joint batch of a random order every so manieth example."""

    def __init__(self, length, joint_batch):
        self.length = length
        self.used = length - length % joint_batch
        self.generator = torch.Generator()  # seeded alike in all processes, see `start_epoch`

    def __iter__(self):
        order = torch.randperm(self.length, generator=self.generator, dtype=torch.int32)[: self.used]
        mine = order[distributed.rank() :: distributed.world_size()]
        # Bit by bit: as a list, the millions of an epoch of a large index take half a gigabyte.
        return (number for part in mine.split(SAMPLER_PART) for number in part.tolist())

    def __len__(self):
        return self.used // distributed.world_size()


def start_epoch(loader, epoch):
    """Let a training loader draw the examples of `epoch`, in the order of `epoch`."""
    loader.dataset.set_epoch(epoch)
    seed = np.random.SeedSequence([loader.dataset.seed, epoch]).generate_state(1)[0]
    loader.sampler.generator.manual_seed(int(seed))


def build_val_loader(args):
    """Batches of the fixed validation mixtures, in the order of the list.

    Of several processes each has its part.
    """
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
    """The mixtures of a mixture list."""
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
    }
