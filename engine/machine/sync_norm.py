"""Batch normalisation over the batches of all processes.

torch's SyncBatchNorm supports GPUs only, so this implements it for the CPU. Names and shapes of parameters
and buffers stay the same.
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise_norms(module, device):
    """Replace all batch normalisation layers in training mode; parameters stay the same objects."""
    sync = nn.SyncBatchNorm.convert_sync_batchnorm if device.type == "cuda" else SyncNorm
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and child.training:
                setattr(parent, name, sync(child))


class SyncNorm(_BatchNorm):
    """The batch normalisation layer `norm`; in training its statistics are over all processes' batches."""

    def __init__(self, norm):
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)

    def _check_input_dim(self, x):
        pass  # any [B, C, …]

    def forward(self, x):
        """[B, C, …] -> the same shape, normalised per channel."""
        if not self.training:
            return super().forward(x)
        dims = [d for d in range(x.dim()) if d != 1]
        shape = [-1] + [1] * (x.dim() - 2)  # of one value per channel, broadcast over x
        wide = x.float()
        sums = torch.cat([wide.sum(dims), wide.new_tensor([x.numel() / x.shape[1]])])
        sums = _SumOfAll.apply(sums)
        mean, count = sums[:-1] / sums[-1], sums[-1]
        centred = wide - mean.view(shape)
        var = _SumOfAll.apply(centred.square().sum(dims)) / count
        self._track(mean.detach(), var.detach() * count / (count - 1))
        scale = self.weight * (var + self.eps).rsqrt()
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean, var):
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var, self.momentum)


class _SumOfAll(torch.autograd.Function):
    """The sum of a tensor over all processes. All of them use it, so gradients are summed as well."""

    @staticmethod
    def forward(ctx, tensor):
        """The sum of the processes' tensors."""
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        """The sum of the processes' gradients: each process's tensor is in every sum."""
        total = gradient.clone()
        dist.all_reduce(total)
        return total
