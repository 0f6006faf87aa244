"""Learning rates over a run, a function of how much of it is trained, so that a resumed run has the same."""

import math

RATE_DROP = 0.1  # factor on the learning rates after each epoch in --lr_steps


def rate_factor(args, done):
    """The factor on the learning rates after `done` epochs, a whole number and the trained part of the next.

    `--warmup` epochs of a linear rise come before and under both schedules: `step`, as published, falls after
    each epoch in `--lr_steps`; `cosine` falls to zero at the end of the run.
    """
    rise = min(1.0, done / args.warmup) if args.warmup else 1.0
    if args.schedule == "cosine":
        return rise * (1 + math.cos(math.pi * done / args.num_epoch)) / 2
    return rise * RATE_DROP ** sum(step <= done for step in args.lr_steps)
