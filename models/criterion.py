"""The losses over masks."""

import torch
import torch.nn.functional as F
from torch import nn

LOSSES = {
    "bce": F.binary_cross_entropy,
    "l1": F.l1_loss,
    "l2": F.mse_loss,
}


class Criterion(nn.Module):
    """The mean over sources of the weighted mean loss: bce | l1 | l2."""

    def __init__(self, arch):
        super().__init__()
        self.loss = LOSSES[arch]

    def forward(self, preds, targets, weight=None):
        """A scalar. preds, targets: [B, N, F, T], or lists of N of [B, 1, F, T]; weight: [B, 1, F, T]."""
        return self.per_sample(_joined(preds), _joined(targets), weight).mean()

    def per_sample(self, preds, targets, weight=None):
        """The loss of each example, [B]. `preds`, `targets`: [B, N, F, T]; `weight`: [B, 1, F, T] or None."""
        loss = self.loss(preds, targets, reduction="none")
        return (loss if weight is None else loss * weight).flatten(1).mean(dim=1)


def _joined(masks):
    # Lists are what the published code passed, and scripts written against it.
    return masks if isinstance(masks, torch.Tensor) else torch.cat(list(masks), dim=1)
