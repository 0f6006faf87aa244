"""How fast a run trains, and how long it still takes."""

import time


class Pace:
    """Counts the steps of this session, of which `num_steps` are left at its beginning."""

    def __init__(self, num_steps, clock=time.monotonic):
        self.clock = clock
        self.num_steps = num_steps
        self.done = 0  # in this session
        # In its epochs before the current one, less what earlier sessions did of the current one.
        self.done_before = 0
        self.began = self.epoch_began = clock()

    def begin_epoch(self, done=0, seconds=0.0):
        """Measure the speed of an epoch, of which `done` steps took `seconds` before this session."""
        self.epoch_began, self.done_before = self.clock() - seconds, self.done - done

    def step(self):
        """Count a step."""
        self.done += 1

    def steps(self):
        """Steps in this epoch."""
        return self.done - self.done_before

    def seconds(self):
        """Seconds that this epoch has taken."""
        return self.clock() - self.epoch_began

    def speed(self):
        """Steps per second in this epoch."""
        seconds = self.seconds()
        return self.steps() / seconds if seconds else 0.0

    def left(self):
        """Seconds that the run still takes, at the average of this session; None before its first step.

        Evaluations count once there has been one.
        """
        if not self.done:
            return None
        return (self.clock() - self.began) / self.done * (self.num_steps - self.done)
