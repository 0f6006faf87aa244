"""Unreadable clips: each is logged once, and too many stop the run."""

import logging

from engine.machine import distributed
from utils import UserError

MAX_SHARE = 0.05  # of the list's clips may be unreadable
NUM_NAMED = 10  # clips listed in the error

logger = logging.getLogger(__name__)


class Failures:
    """Collects the unreadable clips of a data set, batch by batch; `num_clips`: length of its list.

    Each process has only its own until `join`.
    """

    def __init__(self, num_clips, path_list):
        self.num_clips = num_clips
        self.path_list = path_list
        self.reasons = {}  # name of a clip: why it could not be read

    def __len__(self):
        return len(self.reasons)

    def add(self, batch):
        """Add the failures of a batch. Raises UserError if more than 5 % of the clips have failed."""
        self._note([failure for info in batch["info"] + batch["dropped"] for failure in info["failures"]])

    def join(self):
        """Add the failures of the other processes; waits for all of them. Raises UserError like `add`."""
        for reasons in distributed.gather(self.reasons):
            self._note(reasons.items())

    def _note(self, failures):
        for name, reason in failures:
            if name not in self.reasons:
                self.reasons[name] = reason
                logger.warning("left out: clip %s: %s", name, reason)
        if len(self.reasons) > MAX_SHARE * self.num_clips:
            lines = [f"  {name}: {reason}" for name, reason in list(self.reasons.items())[:NUM_NAMED]]
            raise UserError(
                f"{self.path_list}: {len(self.reasons)} of {self.num_clips} clips cannot be read, "
                f"more than {MAX_SHARE:.0%}:\n" + "\n".join(lines)
            )
