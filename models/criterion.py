"""Activations, by name, and the losses on masks."""

import torch
import torch.nn.functional as F
from torch import nn

from utils import UserError

ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: torch.softmax(x, dim=1),
    "relu": torch.relu,
    "tanh": torch.tanh,
    "no": lambda x: x,
}
LOSSES = {
    "bce": F.binary_cross_entropy,
    "l1": F.l1_loss,
    "l2": F.mse_loss,
}


def activate(x, activation):
    """Apply an activation by name: sigmoid | softmax (over dimension 1) | relu | tanh | no."""
    return ACTIVATIONS[known(activation, ACTIVATIONS, "activation")](x)


def known(name, choices, what):
    """Return `name`. Raises UserError, listing the `choices`, if it is not one of them."""
    if name not in choices:
        raise UserError(f"unknown {what} {name!r}: choose from {', '.join(choices)}")
    return name


class Criterion(nn.Module):
    """The mean over sources of the weighted mean loss: bce | l1 | l2."""

    def __init__(self, arch):
        super().__init__()
        self.loss = LOSSES[arch]

    def forward(self, preds, targets, weight=None):
        """A scalar. preds, targets: [B, N, F, T], or lists of N of [B, 1, F, T]; weight: [B, 1, F, T]."""
        return self.per_sample(_joined(preds), _joined(targets), weight).mean()

    def of_logits(self, logits, activation, targets, weight=None):
        """The loss of each example, [B], from masks before their activation; other arguments as in `forward`.

        The cross-entropy is computed from the logits, so that confidently wrong masks, whose probabilities
        round to 0 or 1, still have a gradient.
        """
        if self.loss is not F.binary_cross_entropy:
            return self.per_sample(activate(logits, activation), targets, weight)
        assert activation in ("sigmoid", "softmax"), "cross-entropy needs probabilities"
        if activation == "softmax":
            logits = against_others(logits)
        return _per_sample(F.binary_cross_entropy_with_logits, logits, targets, weight)

    def per_sample(self, preds, targets, weight=None):
        """The loss of each example, [B]. `preds`, `targets`: [B, N, F, T]; `weight`: [B, 1, F, T] or None."""
        return _per_sample(self.loss, preds, targets, weight)


def against_others(logits):
    """[B, N, ...] logits of a softmax over N -> logits whose sigmoid equals the softmax."""
    rest = [torch.cat([logits[:, :n], logits[:, n + 1 :]], dim=1) for n in range(logits.shape[1])]
    return logits - torch.stack([one.logsumexp(dim=1) for one in rest], dim=1)


def _per_sample(function, preds, targets, weight):
    loss = function(preds, targets, reduction="none")
    return (loss if weight is None else loss * weight).flatten(1).mean(dim=1)


def _joined(masks):
    # The published code passes lists, and so do scripts written for it.
    return masks if isinstance(masks, torch.Tensor) else torch.cat(list(masks), dim=1)
