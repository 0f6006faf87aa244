"""Frame networks: a backbone, then a convolution to `fc_dim` channels. Here the published ResNet-18."""

import os

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from utils import UserError

WIDTH_RESNET = 512  # channels of ResNet-18's last stage
POOLS = {"maxpool": F.adaptive_max_pool3d, "avgpool": F.adaptive_avg_pool3d}
IMG_NORMS = ("none", "batch")
MEAN_RGB = 0.485, 0.456, 0.406  # of ImageNet, on which the published ResNet was trained
STD_RGB = 0.229, 0.224, 0.225


class FrameNet(nn.Module):
    """A backbone `features`, then a convolution `fc`: frames [B, 3, H, W] -> map [B, C, h, w].

    Frames are normalised with `mean_rgb` and `std_rgb`. K: channels of the backbone.
    """

    mean_rgb, std_rgb = MEAN_RGB, STD_RGB

    def __init__(self, features, fc, pool_type="maxpool", img_norm="none"):
        super().__init__()
        if pool_type not in POOLS:
            raise UserError(f"unknown pooling {pool_type!r}: choose from {', '.join(POOLS)}")
        if img_norm not in IMG_NORMS:
            raise UserError(f"unknown image norm {img_norm!r}: choose from {', '.join(IMG_NORMS)}")
        self.pool_type = pool_type
        self.frozen = False  # no gradients in the backbone
        self.fixed_norms = False  # its running statistics do not change
        self.features = features
        self.fc = fc
        self.norm = nn.BatchNorm1d(fc.out_channels) if img_norm == "batch" else nn.Identity()

    def freeze(self):
        """Stop training the backbone: no gradients, and fixed running statistics."""
        self.frozen = self.fixed_norms = True
        self.features.requires_grad_(False).eval()

    def unfreeze(self):
        """Train the backbone again; its running statistics stay fixed, as is usual in fine-tuning."""
        self.frozen = False
        self.features.requires_grad_(True)

    def train(self, mode=True):
        """Set the mode; a backbone with fixed statistics stays in evaluation mode."""
        super().train(mode)
        self.features.train(mode and not self.fixed_norms)
        return self

    def forward(self, x, pool=True):
        """Frames [B, 3, H, W] -> [B, C], or [B, C, h, w] if not pooled."""
        feats = self.forward_multiframe(x[:, :, None], pool)
        return feats if pool else feats[:, :, 0]

    def forward_multiframe(self, x, pool=True):
        """Clips [B, 3, T, H, W] -> [B, C], pooled over time and space, or [B, C, T, h, w] if not pooled."""
        return self.head(self.backbone_maps(x), pool)

    def backbone_maps(self, x):
        """Clips [B, 3, T, H, W] -> maps of the backbone [B, K, T, h, w]."""
        maps = self.features(x.transpose(1, 2).flatten(0, 1))
        return maps.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)

    def head(self, maps, pool=True):
        """Maps of the backbone [B, K, T, h, w] -> [B, C], or [B, C, T, h, w] if not pooled."""
        size_b, _, size_t = maps.shape[:3]
        maps = self.fc(maps.transpose(1, 2).flatten(0, 1))
        maps = maps.unflatten(0, (size_b, size_t)).transpose(1, 2)
        if pool:
            return self.norm(POOLS[self.pool_type](maps, 1).flatten(1))
        return self.norm(maps.flatten(2)).view_as(maps)

    def condense(self, maps):
        """Maps [B, K, T, h, w], or their mean [B, K, 1, 1, 1] if `head` pools both to the same."""
        # A 1×1 convolution commutes with the mean.
        if self.pool_type == "avgpool" and self.fc.kernel_size == (1, 1):
            return maps.mean(dim=(2, 3, 4), keepdim=True)
        return maps


class ResnetFC(FrameNet):
    """ResNet-18, then a 3×3 convolution `fc`: stride 32."""

    def __init__(self, resnet, fc_dim=32, pool_type="maxpool", img_norm="none"):
        features = nn.Sequential(*list(resnet.children())[:-2])
        super().__init__(features, nn.Conv2d(WIDTH_RESNET, fc_dim, 3, padding=1), pool_type, img_norm)


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
