"""What passes between the CPU and a GPU while the GPU computes. On the CPU nothing is copied."""

import torch

TENSORS = ("mix", "sources", "frames")  # of a batch


def batches_on(device, loader):
    """The batches of `loader` with their tensors on `device`.

    A GPU is given a batch on a stream of its own, from pinned memory, while it still computes the step
    before, whose kernels were only asked for.
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
            tensor.record_stream(current)  # or its memory would be free for the next copy too early
        yield batch | moved


class Arriving:
    """A scalar on its way from the device; the device can be given more to do meanwhile."""

    def __init__(self, scalar):
        self._value = scalar.to("cpu", non_blocking=True)
        self._event = torch.cuda.Event() if scalar.is_cuda else None
        if self._event:
            self._event.record()

    def item(self):
        """The number: waits for what the device was asked before it, and for nothing asked since."""
        if self._event:
            self._event.synchronize()
        return self._value.item()
