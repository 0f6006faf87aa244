"""How fast a run trains, and how long it still takes."""

import time


class Pace:
    """Counts the steps of this session, of which `num_steps` are left at its beginning."""

    def __init__(self, num_steps, clock=time.monotonic):
        self.clock = clock
        self.num_steps = num_steps
        self.done = 0  # in this session
        self.done_before = 0  # in its epochs before the current one
        self.began = self.epoch_began = clock()

    def begin_epoch(self):
        """Measure the speed from now on."""
        self.epoch_began, self.done_before = self.clock(), self.done

    def step(self):
        """Count a step."""
        self.done += 1

    def steps(self):
        """Steps in this epoch."""
        return self.done - self.done_before

    def speed(self):
        """Steps per second in this epoch."""
        seconds = self.clock() - self.epoch_began
        return self.steps() / seconds if seconds else 0.0

    def left(self):
        """Seconds that the run still takes, at the average of this session; None before its first step.

        Evaluations count once there has been one.
        """
        if not self.done:
            return None
        return (self.clock() - self.began) / self.done * (self.num_steps - self.done)
