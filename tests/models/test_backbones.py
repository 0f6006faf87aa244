"""Backbones that others trained: they see what a picture shows, and when frozen they stay as they are."""

import copy
import importlib.util
import math
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from models import build_frame
from models.backbones import load_backbone, load_in_order
from models.vision_net import FrameNet
from tests.models.test_separator import make_separator
from utils import UserError

CLOCK = 409  # ImageNet's class "analog clock"
SIDE = 112  # pixels


@pytest.fixture(scope="module")
def lite0():
    """The frame network with its ImageNet weights."""
    return build_frame("lite0", fc_dim=5, pool_type="avgpool", pretrained="imagenet", img_norm="batch")


def draw_clock():
    """uint8 [3, SIDE, SIDE]: a clock at a quarter past ten."""
    picture = Image.new("RGB", (SIDE, SIDE), (200, 180, 150))
    draw, middle = ImageDraw.Draw(picture), SIDE / 2

    def disc(radius, colour):
        draw.ellipse([middle - radius * SIDE, middle - radius * SIDE] + [middle + radius * SIDE] * 2, colour)

    def hand(turn, start, end, width):
        x, y = math.sin(math.tau * turn), -math.cos(math.tau * turn)
        ends = [middle + radius * SIDE * side for radius in (start, end) for side in (x, y)]
        draw.line(ends, (10, 10, 10), width)

    disc(0.44, (60, 40, 30))
    disc(0.4, (250, 250, 245))
    for minute in range(60):
        hand(minute / 60, 0.36 if minute % 5 else 0.33, 0.38, 1 if minute % 5 else 3)
    hand(10.25 / 12, 0, 0.2, 5)
    hand(15 / 60, 0, 0.3, 3)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def normalised(net, pictures):
    """uint8 [B, 3, H, W] as `net` expects them."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (net.mean_rgb, net.std_rgb))
    return (pictures / 255 - mean) / std


@torch.no_grad()
def test_it_knows_a_clock_when_it_sees_one(lite0):
    """Weights that went to the wrong layers, or pictures in another range, would not tell."""
    classifier = load_backbone("lite0", "imagenet").classifier
    maps = lite0.eval().backbone_maps(normalised(lite0, draw_clock()[None])[:, :, None])
    assert maps.shape == (1, 1280, 1, 4, 4)
    chances = classifier(maps.mean(dim=(2, 3, 4))).softmax(1)[0]
    assert chances.argmax() == CLOCK
    assert chances[CLOCK] > 0.9


def test_weights_are_mapped_in_order_only_where_all_shapes_fit():
    timm = pytest.importorskip("timm")
    network = timm.create_model("tf_efficientnet_lite0")
    state = {f"other.{key}": torch.full_like(value, 3) for key, value in network.state_dict().items()}
    load_in_order(network, state)
    assert all((value == 3).all() for value in network.state_dict().values())
    first = next(iter(state))
    for wrong in (state | {first: state[first][:1]}, {key: state[key] for key in list(state)[1:]}):
        with pytest.raises(UserError, match="are not those of tf_efficientnet_lite0"):
            load_in_order(network, wrong)


@pytest.mark.parametrize("pool", ["avgpool", "maxpool"])
def test_pooling_is_over_time_and_space_at_once(pool):
    net = build_frame("timm:resnet10t", fc_dim=5, pool_type=pool, pretrained="none").eval()
    clips = torch.randn(2, 3, 3, 64, 64)
    with torch.no_grad():
        pooled, maps = net.forward_multiframe(clips), net.forward_multiframe(clips, pool=False)
    assert maps.shape == (2, 5, 3, 2, 2)
    expected = maps.amax((2, 3, 4)) if pool == "maxpool" else maps.mean((2, 3, 4))
    torch.testing.assert_close(pooled, expected)


@pytest.mark.parametrize("pool", ["avgpool", "maxpool"])
@pytest.mark.parametrize("arch", ["lite0", "resnet18fc"])
def test_features_that_were_kept_are_those_of_the_pictures(arch, pool):
    separator = make_separator().eval()
    separator.net_frame = build_frame(arch, 4, pool, pretrained=False, img_norm="batch").eval()
    frames = torch.randint(0, 256, (2, 2, 3, 3, 64, 64), dtype=torch.uint8)
    kept = separator.backbone_features(frames)
    assert kept.dtype == torch.float16
    assert (kept[0, 0, 0].numel() == 1) == (arch == "lite0" and pool == "avgpool")
    with torch.no_grad():
        torch.testing.assert_close(
            separator.image_features(kept), separator.image_features(frames), atol=1e-3, rtol=1e-3
        )


def test_a_frozen_backbone_does_not_change_and_the_rest_learns(lite0):
    net = copy.deepcopy(lite0)
    net.freeze()
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        net.train()
        net(torch.randn(4, 3, 64, 64)).square().sum().backward()
        optimizer.step()
    changed = {
        key.partition(".")[0]
        for key, value in net.state_dict().items()
        if not torch.equal(value, before[key])
    }
    assert changed == {"fc", "norm"}


def test_all_the_backbone_learns_unless_it_is_frozen(lite0):
    assert all(p.requires_grad for p in lite0.parameters())
    assert lite0.train().features.training


def test_a_file_of_weights(tmp_path):
    path = str(tmp_path / "own.pth")
    state = load_backbone("timm:resnet10t", "none").state_dict()
    torch.save(state, path)
    net = build_frame("timm:resnet10t", pretrained=path)
    torch.testing.assert_close(net.features.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])
    with pytest.raises(UserError, match="is not a state dict of resnet14t"):
        build_frame("timm:resnet14t", pretrained=path)
    with pytest.raises(UserError, match="no file"):
        build_frame("lite0", pretrained=str(tmp_path / "none.pth"))
    (tmp_path / "own.pth").write_text("<html>403</html>")
    with pytest.raises(UserError, match="not a file of weights"):
        build_frame("lite0", pretrained=path)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("timm:no_such_network", "timm .* has no network of that name"),
        ("timm:vit_tiny_patch16_224", "expected a map"),
        ("timm:swin_tiny_patch4_window7_224", "expected a map"),
        ("resnet19", "unknown frame network"),
    ],
)
def test_networks_that_will_not_do_are_refused(arch, message):
    with pytest.raises(UserError, match=message):
        build_frame(arch, pretrained="none")


@pytest.mark.parametrize(
    ("missing", "message"), [("timm", "lite0 needs timm"), ("weights", "needs efficientnet_lite0")]
)
def test_what_is_not_installed_is_named_in_one_line(monkeypatch, missing, message):
    if missing == "timm":
        monkeypatch.setitem(sys.modules, "timm", None)
    else:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=message) as error:
        build_frame("lite0", pretrained="imagenet")
    assert "\n" not in str(error.value)


def test_a_download_that_fails_says_so(monkeypatch):
    timm = pytest.importorskip("timm")
    create = timm.create_model

    def offline(name, pretrained=False):
        if pretrained:
            raise OSError("no network")
        return create(name)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match=r"could not download timm's weights of resnet10t \(no network\)"):
        build_frame("timm:resnet10t", pretrained="imagenet")


def test_published_networks_are_normalised_as_imagenet_is():
    assert build_frame("resnet18fc", pretrained=False).mean_rgb == FrameNet.mean_rgb == (0.485, 0.456, 0.406)
