"""How a GPU computes in float32, and which algorithms it takes for convolutions."""

import torch


def set_precision(amp, fixed_shapes=False):
    """Make float32 mean float32 if `amp` is "off"; let cuDNN search for fast algorithms.

    amp: off | bf16 | fp16, as `models.separator.choose_amp` gives it. By default convolutions of float32
    round to TF32, with 10 bits of mantissa, on GPUs from Ampere on. fixed_shapes: most batches have the same
    shapes, so that the search is done once. Neither has an effect on the CPU.
    """
    if amp == "off":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = fixed_shapes
