"""Losses and weights that are not finite: NaN or infinity.

A step with such a loss makes all weights NaN, so that nothing after it can be used.
"""

import logging
import math

import torch

from engine.machine import distributed
from models import nonfinite
from utils import Fault

NUM_NAMED = 10  # clips listed in a message

logger = logging.getLogger(__name__)


class Guard:
    """Leaves out up to `allowed` steps whose loss is not finite.

    With `allowed` 0 it does nothing, so that no step waits for its loss; see `check_loss`.
    """

    def __init__(self, separator, allowed):
        self.separator = separator
        self.allowed = allowed
        self.skipped = 0  # steps left out in this session
        self.is_spoilt = False  # whether gradients of this group of batches are not finite
        self._buffers = []  # copies of the running statistics, before the step

    def begin(self, part):
        """Before the forward pass of batch `part`, from 1, of those that share an optimiser step."""
        self.is_spoilt = self.is_spoilt and part > 1
        if self.allowed:
            self._buffers = [buffer.clone() for buffer in self.separator.buffers()]

    @torch.no_grad()
    def keeps(self, loss, epoch, names):
        """False if the step is to be left out; waits for all processes. Raises Fault if they are too many.

        loss: a scalar; names: a function that returns the names of the batch's clips.
        """
        if not self.allowed:
            return True
        value = loss.item()
        found = distributed.gather((value, () if math.isfinite(value) else names()))
        bad = [each for each in found if not math.isfinite(each[0])]
        if not bad:
            return True
        self.is_spoilt = True
        for buffer, before in zip(self.separator.buffers(), self._buffers, strict=True):
            buffer.copy_(before)
        if self.skipped == self.allowed:
            check_loss(bad[0][0], epoch, bad[0][1])
        self.skipped += 1
        text = "step left out (%d of --skip_nonfinite %d): the loss is %s, for the clips %s"
        logger.warning(text, self.skipped, self.allowed, bad[0][0], _listing(bad[0][1]))
        return False


def check_loss(loss, epoch, names):
    """Raise Fault, naming the clips, if the loss of a step is not finite."""
    if not math.isfinite(loss):
        raise Fault(
            f"the loss is {loss} in epoch {epoch}, for the clips {_listing(names)}: check their sound, or "
            "lower the learning rates; the same command goes on from the last saved state, and "
            "--skip_nonfinite N leaves out up to N such steps"
        )


def check_results(results, epoch):
    """Raise Fault, naming the clips, if a mixture's validation loss is not finite."""
    bad = [result for result in results if not math.isfinite(result.loss)]
    if bad:
        names = sorted({name for result in bad for _, name in result.clips})
        raise Fault(
            f"the validation loss of {len(bad)} of {len(results)} mixtures is not finite in epoch {epoch}, "
            f"for the clips {_listing(names)}: check their sound; the same command evaluates this epoch again"
        )


def check_weights(separator, folder):
    """Raise Fault if values of the networks are not finite: they are not to be saved in `folder`."""
    bad = nonfinite(separator)
    if bad:
        raise Fault(
            f"{len(bad)} tensors of the networks are not finite, e.g. {bad[0]}: lower the learning rates; "
            f"the state saved in {folder} is kept, and the same command goes on from it"
        )


def _listing(names):
    more = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return ", ".join(names[:NUM_NAMED]) + more
