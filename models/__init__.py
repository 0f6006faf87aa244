"""The published networks, under their published names, and the forward pass that joins them.

Shapes: B batch, N sources of a mixture, C channels (`fc_dim`), F frequencies, T columns of a spectrogram or
frames of a clip, H W frame size, h w size of the map of image features, L samples.
"""

import environment  # noqa: F401

import torch
from torch import nn

from models.audio_net import Unet
from models.backbones import TimmFC, is_backbone, load_backbone
from models.criterion import Criterion, known
from models.synthesizer_net import Bias, InnerProd
from models.tfc_tdf import TfcTdf
from models.vision_net import ResnetDilated, ResnetFC, load_resnet
from utils import Fault, UserError, find_damage

UNETS = {"unet5": 5, "unet6": 6, "unet7": 7}  # levels
ARCHS_SOUND = (*UNETS, "tfc_tdf")
ARCHS_FRAME = {"resnet18fc": ResnetFC, "resnet18dilated": ResnetDilated}
ARCHS_SYNTHESIZER = {"linear": InnerProd, "bias": Bias}
CRITERIA = ("bce", "l1", "l2")


def build_sound(arch="unet7", fc_dim=32, weights="", ngf=64, init="normal", depth=1, num_freqs=256):
    """The sound network: log-magnitude [B, 1, F, T] -> features [B, fc_dim, F, T].

    `ngf`: channels of the first level, 64 as published. `init`: random initialisation of the U-Net, `normal`
    as published (so small that batch normalisation's epsilon dominates, which slows the start) or `kaiming`.
    `depth`, `num_freqs`: of `models.tfc_tdf`.
    """
    if known(arch, ARCHS_SOUND, "sound network") == "tfc_tdf":
        return _load(TfcTdf(fc_dim, ngf, depth, num_freqs), weights)
    net = Unet(fc_dim=fc_dim, num_downs=UNETS[arch], ngf=ngf)
    net.apply(INITS[known(init, INITS, "initialisation")])
    return _load(net, weights)


def build_frame(
    arch="resnet18dilated", fc_dim=32, pool_type="maxpool", weights="", pretrained=True, img_norm="none"
):
    """The frame network: frames [B, 3, T, H, W] -> features [B, fc_dim] by `forward_multiframe`.

    `arch`: resnet18fc | resnet18dilated | lite0 | timm:NAME; for the last two see `models.backbones`.
    `pretrained`: True or "imagenet" (torchvision's or timm's weights), False or "none", or the path of a
    state dict of the backbone; ignored if `weights` is given, which has the whole network.
    `img_norm`: none, as published, or batch: batch normalisation of the pooled features.
    """
    source = "none" if weights or pretrained is False else "imagenet" if pretrained is True else pretrained
    options = {"fc_dim": fc_dim, "pool_type": pool_type, "img_norm": img_norm}
    if is_backbone(arch):
        net = TimmFC(load_backbone(arch, source), **options)
    else:
        net = ARCHS_FRAME[known(arch, ARCHS_FRAME, "frame network")](load_resnet(source), **options)
    return _load(net, weights)


def build_synthesizer(arch="linear", fc_dim=32, weights=""):
    """The synthesizer: image features [B, C] and sound features [B, C, F, T] -> mask logits [B, 1, F, T]."""
    net = ARCHS_SYNTHESIZER[known(arch, ARCHS_SYNTHESIZER, "synthesizer")](fc_dim)
    return _load(net, weights)


def build_criterion(arch="bce"):
    """The loss on masks: bce | l1 | l2, see `models.criterion.Criterion`."""
    return Criterion(known(arch, CRITERIA, "loss"))


def load_weights(net, path):
    """Load a plain state dict from the file `path` into `net`.

    Raises UserError, naming the file, if it is missing, damaged, not a checkpoint, or from another network,
    and Fault if its values are not finite.
    """
    try:
        damage = find_damage(path)
        if damage:
            raise UserError(f"{path}: {damage}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"no weights at {path}") from None
    except UserError:
        raise
    except Exception as error:  # torch.load raises many types for files that are not checkpoints
        raise UserError(f"{path}: not a file of weights ({type(error).__name__})") from None
    try:
        net.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        complaint = " ".join(str(error).split())[:400]
        raise UserError(
            f"{path}: the weights are of another network than the options describe: {complaint}"
        ) from None
    bad = nonfinite(net)
    if bad:
        raise Fault(f"{path}: {bad[0]} has values that are not finite: these weights cannot be used")


def nonfinite(net):
    """The names of parameters and statistics of a module that have NaN or infinite values."""
    values = net.state_dict().items()
    return [name for name, value in values if value.is_floating_point() and not value.isfinite().all()]


def _load(net, path):
    if path:
        load_weights(net, path)
    return net


def _init_normal(module):
    """The published initialisation."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.001)
    _init_norm(module)


def _init_kaiming(module):
    """An initialisation that keeps the scale of activations and gradients: He et al., 2015."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, a=0.2)
        if module.bias is not None:  # the last layer: small features, masks near one half
            nn.init.normal_(module.weight, 0.0, 0.02)
    _init_norm(module)


def _init_norm(module):
    if isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


INITS = {"normal": _init_normal, "kaiming": _init_kaiming}
