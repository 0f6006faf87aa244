"""Networks, optimiser and sampling as the options describe them."""

import torch
from torch import nn

from dataset.music import Sampling
from engine.machine import distributed
from engine.options import frozen_epochs, num_freqs
from models import build_criterion, build_frame, build_sound, build_synthesizer
from models.separator import Separator, Settings, choose_amp

RATES = ("sound", "synthesizer", "backbone", "fc")  # names of the optimiser's groups, in their order


def build_separator(args, weights=None, pretrained="none"):
    """The networks that `args` describe in one module, on the CPU.

    weights: {"sound": file, "frame": file, "synthesizer": file}; "" for random initialisation.
    pretrained: initial weights of the ResNet, see `models.build_frame`.
    """
    files = weights or {"sound": "", "frame": "", "synthesizer": ""}
    torch.manual_seed(args.seed)
    net_sound = build_sound(
        args.arch_sound,
        args.num_channels,
        files["sound"],
        args.ngf,
        args.init_sound,
        args.depth_sound,
        num_freqs(args),
    )
    net_frame = build_frame(
        args.arch_frame, args.num_channels, args.img_pool, files["frame"], pretrained, args.img_norm
    )
    if frozen_epochs(args):
        net_frame.freeze()
    net_synthesizer = build_synthesizer(args.arch_synthesizer, args.num_channels, files["synthesizer"])
    settings = Settings(
        binary_mask=bool(args.binary_mask),
        mask_target=args.mask_target,
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

    Training under torchrun wraps it further, see `distributed.share_gradients`.
    """
    device = distributed.choose_device(num_gpus)
    separator.to(device)
    return (nn.DataParallel(separator, list(range(num_gpus))) if num_gpus > 1 else separator), device


def build_optimizer(args, separator):
    """SGD or AdamW with the published learning rates: `fc` and norm of the frame network use --lr_sound.

    With --lr_frame 0, the backbone's parameter group is empty.
    """
    net_frame = separator.net_frame
    head = [*net_frame.fc.parameters(), *net_frame.norm.parameters()]
    groups = [
        {"params": list(separator.net_sound.parameters()), "lr": args.lr_sound},
        {"params": list(separator.net_synthesizer.parameters()), "lr": args.lr_synthesizer},
        {"params": list(net_frame.features.parameters()) if args.lr_frame else [], "lr": args.lr_frame},
        {"params": head, "lr": args.lr_sound},
    ]
    for group in groups:
        group["first_lr"] = group["lr"]
    if args.optimizer == "adamw":
        return torch.optim.AdamW(
            groups, betas=(args.beta1, 0.999), weight_decay=args.weight_decay, fused=True
        )
    # Not fused: fp16 overflows in its first steps, and torch's fused SGD then reads uninitialised momentum.
    return torch.optim.SGD(groups, momentum=args.beta1, weight_decay=args.weight_decay)


def build_sampling(args):
    """The part of `args` that says how an example is sampled."""
    return Sampling(
        num_mix=args.num_mix,
        num_frames=args.num_frames,
        stride_frames=args.stride_frames,
        fps=args.frameRate,
        img_size=args.imgSize,
        aud_len=args.audLen,
        aud_rate=args.audRate,
    )
