"""Cells and regions of pictures against the forward pass of training."""

import pytest
import torch

from arguments import parse_args
from engine.build import build_separator
from engine.separation.pixels import MIN_SUM, PixelSeparator
from tests.golden.golden_weights import fill

SMALL = (
    "--pretrained none --arch_sound unet5 --arch_frame resnet18fc --ngf 4 --num_channels 4 --imgSize 32 "
    "--audLen 8191 --workers 0 --amp off"
).split()
SOFTMAX = ("--output_activation", "softmax", "--binary_mask", "0", "--loss", "l1")


def make_pixels(*flags):
    args = parse_args([*SMALL, *flags])
    separator = build_separator(args)
    for net in (separator.net_sound, separator.net_frame, separator.net_synthesizer):
        fill(net)
    return PixelSeparator(separator, args.num_mix)


@pytest.fixture
def example():
    """Waveforms [B, L] and pictures [B, 3, T, H, W] with B = T = 2 and 2 × 3 cells."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 3, 3, 64, 96), generator=generator, dtype=torch.uint8)
    return torch.randn(2, 8191, generator=generator) / 4, frames


EVERY_CELL = torch.eye(6, dtype=torch.bool).view(6, 2, 3)


@pytest.mark.parametrize("pool", ["maxpool", "avgpool"])
@pytest.mark.parametrize("flags", [(), SOFTMAX, ("--img_norm", "batch"), ("--img_activation", "softmax")])
def test_the_whole_picture_is_heard_as_in_training(example, flags, pool):
    mix, frames = example[0], example[1][..., :64]
    pixels = make_pixels("--img_pool", pool, *flags)
    pictures = torch.stack([frames, frames.flip(3)], dim=1)  # two sources that share a softmax
    separator = pixels.separator
    magnitude, feat_sound = pixels.sound_features(mix)
    wanted = separator.predict_masks(magnitude + 1e-10, pictures)
    whole = torch.ones(1, 2, 2, dtype=torch.bool)
    features = [pixels.region_features(pixels.feature_map([pictures[:, n]]), whole) for n in range(2)]
    masks = pixels.region_masks(torch.cat(features, dim=1), feat_sound, consistent=False)
    torch.testing.assert_close(masks, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("flags", [(), ("--img_pool", "avgpool"), ("--img_activation", "softmax")])
def test_a_region_of_one_cell_is_the_cell(example, flags):
    pixels = make_pixels(*flags)
    maps, (_, feat_sound) = pixels.feature_map([example[1]]), pixels.sound_features(example[0])
    assert maps.shape == (2, 4, 2, 3)
    cells = pixels.cell_masks(maps, feat_sound)
    assert cells.shape == (2, 6, 256, 32)
    regions = pixels.region_masks(pixels.region_features(maps, EVERY_CELL), feat_sound, consistent=False)
    torch.testing.assert_close(regions, cells, atol=1e-6, rtol=0)


def test_consistent_masks_share_what_they_claim():
    pixels = make_pixels()
    pixels.separator.net_synthesizer.scale.data.fill_(1)
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 3, 4, generator=generator)
    feat_sound = 10 * torch.randn(2, 4, 16, 16, generator=generator)  # some bins belong to no region
    free = pixels.region_masks(features, feat_sound, consistent=False)
    shared = pixels.region_masks(features, feat_sound)
    total, claimed = shared.sum(dim=1), free.sum(dim=1) >= MIN_SUM
    assert claimed.any()
    assert not claimed.all()
    assert total.max() <= 1 + 1e-5
    torch.testing.assert_close(total[claimed], torch.ones_like(total[claimed]))
    assert (total[~claimed] < 1).all()
    torch.testing.assert_close(
        shared[:, :1] * free[:, 1:2], shared[:, 1:2] * free[:, :1], atol=1e-6, rtol=1e-3
    )


@pytest.mark.parametrize("num_mix", [2, 3])
def test_under_a_softmax_cells_compete_with_their_picture(example, num_mix):
    pixels = make_pixels(*SOFTMAX, "--num_mix", str(num_mix))
    (_, feat_sound), maps = pixels.sound_features(example[0]), pixels.feature_map([example[1]])
    cells = pixels.cell_masks(maps, feat_sound)
    assert 0 <= cells.min() <= cells.max() <= 1
    alike = maps.mean(dim=(2, 3), keepdim=True).expand_as(maps)
    torch.testing.assert_close(
        pixels.cell_masks(alike, feat_sound), torch.full_like(cells, 0.5), atol=1e-5, rtol=0
    )
    regions = torch.zeros(num_mix, 2, 3, dtype=torch.bool)
    regions[torch.arange(num_mix), 0, torch.arange(num_mix)] = True
    masks = pixels.region_masks(pixels.region_features(maps, regions), feat_sound)
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(2, 256, 32))


def test_two_cells_alone_compete_as_two_sources_do(example):
    pixels = make_pixels(*SOFTMAX)
    feat_sound = pixels.sound_features(example[0])[1]
    maps = torch.randn(2, 4, 1, 2)
    pairs = torch.eye(2, dtype=torch.bool).view(2, 1, 2)
    torch.testing.assert_close(
        pixels.cell_masks(maps, feat_sound),
        pixels.region_masks(pixels.region_features(maps, pairs), feat_sound),
        atol=1e-5,
        rtol=0,
    )


def test_maps_are_the_mean_over_sizes_with_the_cells_of_the_finest(example):
    pixels, frames = make_pixels(), example[1]
    one, coarse = pixels.feature_map([frames]), pixels.feature_map([frames[..., :32, :32]])
    assert coarse.shape == (2, 4, 1, 1)
    torch.testing.assert_close(pixels.feature_map([frames, frames]), one)
    torch.testing.assert_close(pixels.feature_map([frames[..., :32, :32], frames]), (one + coarse) / 2)


def test_silence_has_no_magnitude():
    magnitude, feat_sound = make_pixels().sound_features(torch.zeros(1, 8191))
    assert not magnitude.any()
    assert feat_sound.isfinite().all()


def test_nothing_is_trained():
    pixels = make_pixels()
    assert not pixels.separator.training
    assert not any(weight.requires_grad for weight in pixels.parameters())
