"""Presets: their options exist and work together."""

import pytest
import torch

from arguments import parse_args
from engine.build import build_optimizer, build_separator
from engine.presets import PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_defaults(preset):
    args = vars(parse_args(["--preset", preset]))
    assert {key: args[key] for key in PRESETS[preset]} == PRESETS[preset]
    other = parse_args(["--preset", preset, "--num_channels", "7", "--lr_steps", "3", "--id", "mine"])
    assert (other.num_channels, other.lr_steps, other.id) == (7, [3], "mine")


@pytest.mark.parametrize("preset", PRESETS)
def test_networks_of_a_preset_make_a_step(preset):
    args = parse_args(["--preset", preset, "--pretrained", "none", "--amp", "off"])
    separator = build_separator(args).train()
    optimizer = build_optimizer(args, separator)
    sources = torch.randn(2, args.num_mix, args.audLen)
    frames = torch.zeros(2, args.num_mix, 3, args.num_frames, args.imgSize, args.imgSize, dtype=torch.uint8)
    separator(sources.sum(1), sources, frames)["loss"].mean().backward()
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in separator.named_parameters():
        assert (id(parameter) in trained) == (parameter.grad is not None), name
    optimizer.step()
