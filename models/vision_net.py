"""The frame network: ResNet-18 without its head, then a convolution to `fc_dim` channels."""

import os

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from utils import UserError

WIDTH_RESNET = 512  # channels of ResNet-18's last stage
POOLS = {"maxpool": F.adaptive_max_pool3d, "avgpool": F.adaptive_avg_pool3d}
IMG_NORMS = ("none", "batch")


class ResnetFC(nn.Module):
    """ResNet-18, then a 3×3 convolution `fc`: frames [B, 3, H, W] -> map [B, C, h, w], stride 32."""

    def __init__(self, resnet, fc_dim=32, pool_type="maxpool", img_norm="none"):
        super().__init__()
        if pool_type not in POOLS:
            raise UserError(f"unknown pooling {pool_type!r}: choose from {', '.join(POOLS)}")
        if img_norm not in IMG_NORMS:
            raise UserError(f"unknown image norm {img_norm!r}: choose from {', '.join(IMG_NORMS)}")
        self.pool_type = pool_type
        self.features = nn.Sequential(*list(resnet.children())[:-2])
        self.fc = nn.Conv2d(WIDTH_RESNET, fc_dim, 3, padding=1)
        self.norm = nn.BatchNorm1d(fc_dim) if img_norm == "batch" else nn.Identity()

    def forward(self, x, pool=True):
        """Frames [B, 3, H, W] -> [B, C], or [B, C, h, w] if not pooled."""
        feats = self.forward_multiframe(x[:, :, None], pool)
        return feats if pool else feats[:, :, 0]

    def forward_multiframe(self, x, pool=True):
        """Clips [B, 3, T, H, W] -> [B, C], pooled over time and space, or [B, C, T, h, w] if not pooled."""
        size_b, _, size_t = x.shape[:3]
        maps = self.fc(self.features(x.transpose(1, 2).flatten(0, 1)))
        maps = maps.unflatten(0, (size_b, size_t)).transpose(1, 2)
        if pool:
            return self.norm(POOLS[self.pool_type](maps, 1).flatten(1))
        return self.norm(maps.flatten(2)).view_as(maps)


class ResnetDilated(ResnetFC):
    """The same with a dilated last stage instead of a strided one: stride 16, 14 × 14 for 224 × 224."""

    def __init__(self, resnet, **kwargs):
        super().__init__(resnet, **kwargs)
        self.features[-1].apply(_dilate)


def _dilate(module, dilation=2):
    """Replace strides by 1, and dilate the 3×3 convolutions after them."""
    if not isinstance(module, nn.Conv2d):
        return
    if module.stride == (2, 2):
        module.stride = (1, 1)
        dilation //= 2
    if module.kernel_size == (3, 3):
        module.dilation = module.padding = (dilation, dilation)


def load_resnet(source):
    """A torchvision ResNet-18 with weights from `source`: "imagenet", "none" or the path of a state dict.

    Raises UserError if ImageNet weights are neither cached nor downloadable, or if the file does not fit.
    """
    if source == "none":
        return torchvision.models.resnet18(weights=None)
    if source == "imagenet":
        return _load_imagenet(torchvision.models.ResNet18_Weights.IMAGENET1K_V1)
    resnet = torchvision.models.resnet18(weights=None)
    try:
        resnet.load_state_dict(torch.load(source, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise UserError(f"--pretrained: no file {source}; it takes imagenet, none or a path") from None
    except Exception as error:  # torch.load raises many types for files that are not checkpoints
        raise UserError(f"--pretrained: {source} is not a ResNet-18: {error}") from None
    return resnet


def _load_imagenet(weights):
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    path = os.path.join(folder, os.path.basename(weights.url))
    try:
        return torchvision.models.resnet18(weights=weights)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"could not download ImageNet weights ({error}). Either save {weights.url} as {path}, "
            "or start from random weights with --pretrained none"
        ) from None
