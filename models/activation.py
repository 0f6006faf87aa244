"""Activations of image features, sound features and masks, by name."""

import torch

from utils import UserError

ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: torch.softmax(x, dim=1),
    "relu": torch.relu,
    "tanh": torch.tanh,
    "no": lambda x: x,
}


def activate(x, activation):
    """Apply an activation by name: sigmoid | softmax (over dimension 1) | relu | tanh | no."""
    return ACTIVATIONS[known(activation, ACTIVATIONS, "activation")](x)


def known(name, choices, what):
    """Return `name`. Raises UserError, listing the `choices`, if it is not one of them."""
    if name not in choices:
        raise UserError(f"unknown {what} {name!r}: choose from {', '.join(choices)}")
    return name
