"""Unreadable and damaged clips: each is logged once, and too many unreadable ones stop the run."""

import logging
import os

from dataset.index import read_rows, write_rows
from engine.machine import distributed
from utils import UserError

MAX_SHARE = 0.05  # of the list's clips may be unreadable
NUM_NAMED = 10  # clips listed in the error

FILE_DAMAGED = "damaged.csv"  # in a run's folder: the damaged clips that were nevertheless used
HEADER = ["clip", "complaint"]

logger = logging.getLogger(__name__)


class Failures:
    """Collects the unreadable and damaged clips of a data set, batch by batch.

    num_clips: length of its list. Each process has only its own until `join`. folder: where `join` writes
    FILE_DAMAGED, None: nowhere.
    """

    def __init__(self, num_clips, path_list, folder=None):
        self.num_clips = num_clips
        self.path_list = path_list
        self.path_damaged = folder and os.path.join(folder, FILE_DAMAGED)
        self.reasons = {}  # name of a clip: why it could not be read
        self.damaged = self._read_damaged()  # name of a clip: the first complaint of a decoder

    def __len__(self):
        return len(self.reasons)

    def add(self, batch):
        """Add the failures of a batch. Raises UserError if more than 5 % of the clips have failed."""
        infos = batch["info"] + batch["dropped"]
        self._note_damaged([each for info in infos for each in info.get("damaged", ())])
        self._note([failure for info in infos for failure in info["failures"]])

    def join(self):
        """Add the failures of the other processes; waits for all of them. Raises UserError like `add`.

        Rank 0 then writes the list of damaged clips, if there are any.
        """
        for damaged in distributed.gather(self.damaged):
            self._note_damaged(damaged.items())
        if self.path_damaged and self.damaged and distributed.is_main():
            write_rows(self.path_damaged, [HEADER, *sorted(self.damaged.items())])
        for reasons in distributed.gather(self.reasons):
            self._note(reasons.items())

    def _read_damaged(self):
        """The clips that the run named before it was interrupted."""
        if not (self.path_damaged and os.path.exists(self.path_damaged)):
            return {}
        return {row[0]: row[1] for _, row in read_rows(self.path_damaged)[1:] if len(row) == len(HEADER)}

    def _note_damaged(self, complaints):
        for name, complaint in complaints:
            if name not in self.damaged:
                self.damaged[name] = complaint
                logger.warning("damaged: clip %s: %s", name, complaint)

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
