"""The sound network that sees time and frequency apart: shapes, orders in memory, what each part can do."""

import pytest
import torch
import torch.nn.functional as F

from models import build_sound
from models.tfc_tdf import SubPixel, TfcTdf, TfcTdfBlock, over_frequency


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("num_freqs", "times", "depth"), [(256, 64, 1), (512, 32, 1), (64, 16, 2)])
def test_features_are_as_large_as_the_spectrogram(num_freqs, times, depth, memory_format):
    net = build_sound("tfc_tdf", 5, ngf=8, depth=depth, num_freqs=num_freqs).to(memory_format=memory_format)
    assert net(torch.randn(2, 1, num_freqs, times)).shape == (2, 5, num_freqs, times)


def test_every_parameter_learns():
    torch.manual_seed(0)
    net = build_sound("tfc_tdf", 3, ngf=8, num_freqs=64)
    net(torch.randn(2, 1, 64, 32)).square().mean().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_the_order_in_memory_changes_nothing():
    torch.manual_seed(0)
    net, x = TfcTdf(3, ngf=8, num_freqs=64).eval(), torch.randn(2, 1, 64, 32)
    expected = net(x)
    torch.testing.assert_close(net.to(memory_format=torch.channels_last)(x), expected, atol=1e-4, rtol=1e-4)


def test_a_dense_layer_over_frequency_mixes_frequencies_alone():
    torch.manual_seed(0)
    weight, x = torch.randn(6, 6), torch.randn(2, 3, 6, 4)
    torch.testing.assert_close(over_frequency(weight, x), torch.einsum("gf,bcft->bcgt", weight, x))


def test_a_sub_pixel_convolution_is_torch_s_pixel_shuffle():
    torch.manual_seed(0)
    layer, x = SubPixel(4, 3), torch.randn(2, 4, 5, 6)
    quarters = layer.conv(F.silu(layer.norm(x)))  # channels in the order (row, column, feature)
    expected = F.pixel_shuffle(quarters.unflatten(1, (4, 3)).transpose(1, 2).flatten(1, 2), 2)
    torch.testing.assert_close(layer(x), expected)


def test_a_block_reaches_all_frequencies_and_the_next_moments():
    torch.manual_seed(0)
    block, x = TfcTdfBlock(4, 32).eval(), torch.randn(1, 4, 32, 9)
    other = x.clone()
    other[:, :, 0, 4] += 1
    changed = (block(other) - block(x)).abs().sum(dim=(0, 1)) > 1e-6
    assert changed[:, 4].all()
    assert changed.any(dim=0).tolist() == [False] * 3 + [True] * 3 + [False] * 3


def test_names_of_parameters_stay():
    """Saved networks are loaded by these names."""
    names = {name.partition(".")[0] for name in TfcTdf(3, ngf=4, num_freqs=32).state_dict()}
    assert names == {"bn0", "rows", "down", "encoder", "attention", "decoder", "up"}
    block = set(TfcTdfBlock(4, 8).state_dict())
    assert block >= {"tfc.weight", "tdf", "norm.weight", "norm.bias", "norm.running_mean"}
