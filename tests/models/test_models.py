"""The networks against the reference's numbers, and the errors of the builders."""

import json
import os

import numpy as np
import pytest
import torch

from models import (
    build_criterion,
    build_frame,
    build_sound,
    build_synthesizer,
    load_weights,
)
from models.criterion import activate
from tests.golden.golden_weights import fill
from tests.helpers import GOLDEN
from utils import UserError

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def golden():
    return np.load(os.path.join(GOLDEN, "golden_nets.npz"))


@pytest.fixture(scope="module")
def outputs():
    """What the filled networks make of the reference's inputs: sound features, pooled ones and a map."""
    rs = np.random.RandomState(7)
    spectrogram = torch.from_numpy((2 * rs.standard_normal((2, 1, 256, 256)) - 3).astype(np.float32))
    clips = torch.from_numpy(rs.standard_normal((2, 3, 3, 224, 224)).astype(np.float32))
    net_sound = fill(build_sound()).eval()
    net_frame = fill(build_frame(pretrained=False)).eval()
    with torch.no_grad():
        pooled, maps = (net_frame.forward_multiframe(clips, pool=pool) for pool in (True, False))
        return net_sound(spectrogram), pooled, maps


@pytest.mark.parametrize(
    ("key", "build"),
    [
        ("sound/unet7/32", build_sound),
        ("frame/resnet18dilated/32", lambda: build_frame(pretrained=False)),
        ("synth/linear/32", build_synthesizer),
        ("synth/bias/32", lambda: build_synthesizer("bias")),
    ],
)
def test_names_and_shapes_of_parameters_are_the_published_ones(key, build):
    with open(os.path.join(GOLDEN, "state_dict_keys.json"), encoding="utf-8") as file:
        expected = json.load(file)[key]
    assert {name: list(value.shape) for name, value in build().state_dict().items()} == expected


def test_sound_network(golden, outputs):
    y = outputs[0]
    found = [y.mean(), y.std(), y[0, 0, 10, 20], y[1, 3, 100, 200], y[0, -1, 255, 255], y[1, 0, 0, 0]]
    np.testing.assert_allclose(torch.stack(found), golden["sound/unet7/32"], **CLOSE)


def test_frame_network(golden, outputs):
    _, pooled, maps = outputs
    np.testing.assert_allclose(pooled, golden["frame_multi/resnet18dilated/maxpool"], **CLOSE)
    assert list(maps.shape) == golden["frame_map_shape/resnet18dilated"].tolist()
    found = torch.stack([maps.mean(), maps.std(), maps[0, 0, 0, 0, 0], maps[1, 5, 2, 3, 3]])
    np.testing.assert_allclose(found, golden["frame_map/resnet18dilated"], **CLOSE)


def test_synthesizer(golden, outputs):
    sound, pooled, maps = outputs
    net = fill(build_synthesizer()).eval()
    image = torch.sigmoid(pooled)
    with torch.no_grad():
        y, nosum = net(image, sound), net.forward_nosum(image, sound)
        pixels = net.forward_pixelwise(torch.sigmoid(maps[:1, :, 1]), sound[:1])
    assert list(pixels.shape) == golden["synth_pix_shape/linear"].tolist()
    found = {
        "synth/linear": [y.mean(), y.std(), y[0, 0, 10, 20], y[1, 0, 100, 200]],
        "synth_nosum/linear": [nosum.mean(), nosum.std(), nosum[0, 3, 10, 20], nosum[1, 5, 100, 200]],
        "synth_pix/linear": [
            pixels.mean(),
            pixels.std(),
            pixels[0, 3, 5, 10, 20],
            pixels[0, 13, 0, 100, 200],
        ],
    }
    for key, values in found.items():
        np.testing.assert_allclose(torch.stack(values), golden[key], **CLOSE, err_msg=key)


@pytest.mark.parametrize("arch", ["linear", "bias"])
def test_all_ways_through_a_synthesizer_agree(arch):
    torch.manual_seed(0)
    net = build_synthesizer(arch, fc_dim=4)
    torch.nn.init.normal_(next(net.parameters()))
    images, sound = torch.randn(2, 3, 4), torch.randn(2, 4, 8, 8)
    together = net.forward_sources(images, sound)
    pixels = net.forward_pixelwise(images.transpose(1, 2)[..., None], sound)
    for n in range(3):
        alone = net(images[:, n], sound)[:, 0]
        torch.testing.assert_close(together[:, n], alone)
        torch.testing.assert_close(pixels[:, n, 0], alone)
        bias = net.bias * (sound.shape[1] - 1)  # each channel of forward_nosum carries it
        torch.testing.assert_close(net.forward_nosum(images[:, n], sound).sum(1) - bias, alone)


@pytest.mark.parametrize("arch", ["bce", "l1", "l2"])
def test_criterion(golden, arch):
    p, t, w = (torch.from_numpy(golden[f"crit_in_{name}"]) for name in "ptw")
    criterion = build_criterion(arch)
    np.testing.assert_allclose(criterion([p, 1 - p], [t, t], w), golden[f"crit/{arch}"], rtol=1e-5)
    preds, targets = torch.cat([p, 1 - p], 1), torch.cat([t, t], 1)
    per_sample = criterion.per_sample(preds, targets, w)
    assert per_sample.shape == (2,)
    torch.testing.assert_close(per_sample.mean(), criterion(preds, targets, w))


@pytest.mark.parametrize("num_mix", [2, 3])
@pytest.mark.parametrize("arch", ["bce", "l1", "l2"])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_the_loss_of_logits_is_that_of_their_masks(arch, activation, num_mix):
    torch.manual_seed(0)
    logits, weight = 2 * torch.randn(4, num_mix, 6, 5), torch.rand(4, 1, 6, 5)
    targets = (torch.rand(4, num_mix, 6, 5) > 0.5).float()
    criterion = build_criterion(arch)
    loss = criterion.of_logits(logits, activation, targets, weight)
    torch.testing.assert_close(loss, criterion.per_sample(activate(logits, activation), targets, weight))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_masks_that_are_sure_and_wrong_have_a_gradient(activation):
    logits = torch.tensor([200.0, -200.0]).view(1, 2, 1, 1).requires_grad_()
    targets = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    build_criterion("bce").of_logits(logits, activation, targets).sum().backward()
    assert logits.grad[0, 0] > 0.4
    assert logits.grad[0, 1] < -0.4


@pytest.mark.parametrize(("arch", "levels"), [("unet5", 5), ("unet6", 6), ("unet7", 7)])
def test_u_nets_keep_the_size_and_learn_at_every_level(arch, levels):
    net = build_sound(arch, fc_dim=3, ngf=4)
    size = 2**levels
    y = net(torch.randn(2, 1, size, 2 * size))
    assert y.shape == (2, 3, size, 2 * size)
    y.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=str)
def test_gradients_of_skips_lie_in_memory_of_their_own(order):
    """As parts of the concatenation's they are the same, but slow batch norm down on a CPU."""
    net, found = build_sound("unet5", fc_dim=4, ngf=4).to(memory_format=order), []

    def watch(module, inputs, output):
        output.grad_fn.register_prehook(
            lambda grads: found.append(grads[0].is_contiguous(memory_format=order))
        )

    blocks = [module for name, module in net.named_modules() if name.endswith(".model")]
    for block in blocks[1:]:  # the first is the outermost, without a skip
        block.register_forward_hook(watch)
    net(torch.randn(2, 1, 64, 64)).sum().backward()
    assert found == [True] * 4


def test_kaiming_weights_keep_the_size_of_what_passes_through():
    """The published ones are so small that even batch normalisation, for its epsilon, lets little through."""
    torch.manual_seed(0)
    x, sizes = torch.randn(2, 1, 64, 64), {}
    for init in ("normal", "kaiming"):
        inner = []
        net = build_sound("unet5", fc_dim=3, ngf=8, init=init)
        second_norm = net.unet_block.model[1].model[2]
        second_norm.register_forward_hook(lambda module, args, out, inner=inner: inner.append(out.std()))
        net(x)
        sizes[init] = inner[0]
    assert sizes["normal"] < 0.1
    assert 0.5 < sizes["kaiming"] < 2


@pytest.mark.parametrize(("arch", "side"), [("resnet18fc", 2), ("resnet18dilated", 4)])
@pytest.mark.parametrize("pool", ["maxpool", "avgpool"])
def test_pooling_is_over_time_and_space_at_once(arch, side, pool):
    net = build_frame(arch, fc_dim=5, pool_type=pool, pretrained=False).eval()
    clips = torch.randn(2, 3, 3, 64, 64)
    with torch.no_grad():
        pooled, maps = net.forward_multiframe(clips), net.forward_multiframe(clips, pool=False)
        one = net(clips[:, :, 1], pool=False)
    assert maps.shape == (2, 5, 3, side, side)
    expected = maps.amax((2, 3, 4)) if pool == "maxpool" else maps.mean((2, 3, 4))
    torch.testing.assert_close(pooled, expected)
    torch.testing.assert_close(one, maps[:, :, 1])


def test_batch_norm_of_image_features_spreads_them():
    torch.manual_seed(0)
    net = build_frame("resnet18fc", fc_dim=5, pretrained="none", img_norm="batch")
    features = net(torch.randn(8, 3, 64, 64))
    torch.testing.assert_close(features.mean(0), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std(0, correction=0), torch.ones(5), atol=1e-2, rtol=0)
    with torch.no_grad():
        assert net.eval()(torch.randn(2, 3, 64, 64), pool=False).shape == (2, 5, 2, 2)


def test_activations():
    x = torch.tensor([[-1.0, 2.0]])
    torch.testing.assert_close(activate(x, "softmax").sum(1), torch.ones(1))
    torch.testing.assert_close(activate(x, "relu"), torch.tensor([[0.0, 2.0]]))
    torch.testing.assert_close(activate(x, "no"), x)
    torch.testing.assert_close(activate(x, "sigmoid"), 1 / (1 + torch.exp(-x)))
    torch.testing.assert_close(activate(x, "tanh"), torch.tanh(x))


@pytest.mark.parametrize(
    "build",
    [
        lambda: build_sound("unet9"),
        lambda: build_sound(init="xavier"),
        lambda: build_frame("vgg", pretrained=False),
        lambda: build_frame(pool_type="minpool", pretrained=False),
        lambda: build_frame(img_norm="layer", pretrained=False),
        lambda: build_synthesizer("cubic"),
        lambda: build_criterion("huber"),
        lambda: activate(torch.zeros(1, 1), "gelu"),
    ],
)
def test_unknown_names_are_refused_with_the_choices(build):
    with pytest.raises(UserError, match="choose from"):
        build()


def test_weights_go_to_a_file_and_back(tmp_path):
    first, path = build_synthesizer(fc_dim=4), str(tmp_path / "w.pth")
    torch.nn.init.normal_(first.scale)
    torch.save(first.state_dict(), path)
    torch.testing.assert_close(build_synthesizer(fc_dim=4, weights=path).scale, first.scale)
    with pytest.raises(UserError, match=r"another network.*scale"):
        build_synthesizer(fc_dim=8, weights=path)
    with pytest.raises(UserError, match="no weights at"):
        load_weights(first, str(tmp_path / "none.pth"))
    (tmp_path / "page.pth").write_text("<html>403</html>")
    with pytest.raises(UserError, match="not a file of weights"):
        load_weights(first, str(tmp_path / "page.pth"))


class TestPretrained:
    """ImageNet's weights: from torchvision's cache, from a file, or a clear error."""

    NAME = "resnet18-f37072fd.pth"

    @pytest.fixture
    def cache(self, tmp_path, monkeypatch):
        """torchvision's cache folder, empty, and no network."""
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

        def refuse(*args, **kwargs):
            raise OSError("no network")

        monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
        (tmp_path / "checkpoints").mkdir()
        return tmp_path / "checkpoints"

    @staticmethod
    def resnet_state():
        import torchvision

        torch.manual_seed(3)
        return torchvision.models.resnet18(weights=None).state_dict()

    def test_cached_file_is_used(self, cache):
        state = self.resnet_state()
        torch.save(state, cache / self.NAME)
        net = build_frame("resnet18fc", pretrained=True)
        torch.testing.assert_close(net.features[0].weight, state["conv1.weight"])

    def test_without_file_and_network_both_ways_out_are_named(self, cache):
        with pytest.raises(UserError, match=f"(?s){self.NAME}.*--pretrained none"):
            build_frame(pretrained="imagenet")

    def test_own_file(self, tmp_path):
        state, path = self.resnet_state(), str(tmp_path / "own.pth")
        torch.save(state, path)
        net = build_frame("resnet18fc", pretrained=path)
        torch.testing.assert_close(net.features[0].weight, state["conv1.weight"])
        with pytest.raises(UserError, match="no file"):
            build_frame(pretrained=str(tmp_path / "none.pth"))
        torch.save({"conv1.weight": state["conv1.weight"]}, path)
        with pytest.raises(UserError, match="is not a ResNet-18"):
            build_frame(pretrained=path)
