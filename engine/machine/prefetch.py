"""Copies between the CPU and a GPU while the GPU computes. On the CPU nothing is copied."""

import torch

TENSORS = ("mix", "sources", "frames")  # of a batch


def batches_on(device, loader):
    """The batches of `loader` with their tensors on `device`.

    Batches are copied to a GPU from pinned memory on a separate stream, while it still computes the previous
    step: kernels are launched asynchronously.
    """
    if device.type != "cuda":
        yield from loader
        return
    stream = torch.cuda.Stream(device)
    for batch in loader:
        with torch.cuda.stream(stream):
            moved = {key: batch[key].to(device, non_blocking=True) for key in TENSORS if key in batch}
        current = torch.cuda.current_stream(device)
        current.wait_stream(stream)
        for tensor in moved.values():
            tensor.record_stream(current)  # so that its memory is not reused too early
        yield batch | moved


class Arriving:
    """A scalar that is copied from the device asynchronously."""

    def __init__(self, scalar):
        self._value = scalar.to("cpu", non_blocking=True)
        self._event = torch.cuda.Event() if scalar.is_cuda else None
        if self._event:
            self._event.record()

    def item(self):
        """The number; waits for the work that produces it, but not for work launched later."""
        if self._event:
            self._event.synchronize()
        return self._value.item()
