"""Where a run stands within an epoch, for states that are saved there."""

import numpy as np
import torch

from engine.machine import distributed
from utils import UserError


def seed_step(seed, epoch, step):
    """Seed torch (dropout of some backbones) for a step, so that a resumed run draws what it would have.

    Processes draw differently. `numpy` and `random` have no global state that training uses.
    """
    words = np.random.SeedSequence([seed, epoch, step, distributed.rank()]).generate_state(2)
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))


def pack(trainer):
    """A trainer's position in its epoch; waits for all processes, and joins their failures.

    processes: what is each one's own, the running statistics of batch normalisation and the losses since the
    last log line.
    """
    trainer.failures.join()
    statistics = [buffer.cpu() for buffer in distributed.norm_statistics(trainer.separator)]
    losses = torch.stack(trainer.losses).cpu() if trainer.losses else torch.zeros(0)
    return {
        "step": trainer.step,
        "steps": len(trainer.loader),
        "seconds": trainer.pace.seconds(),
        "loss": trainer.loss,
        "recent": list(trainer.recent),
        "processes": distributed.gather([*statistics, losses]),
    }


@torch.no_grad()
def unpack(within, trainer):
    """Restore what `pack` returned, after `restore` and at the start of the epoch.

    If the number of processes has changed, each gets the mean of what they had. Raises UserError if the epoch
    now has another number of steps.
    """
    args = trainer.args
    if within["steps"] != len(trainer.loader):
        raise UserError(
            f"{args.list_train} has changed within an epoch: expected {within['steps']} steps per epoch, "
            f"found {len(trainer.loader)}; restore it, or --overwrite deletes the run"
        )
    parts = within["processes"]
    if len(parts) == distributed.world_size():
        mine = parts[distributed.rank()]
    else:
        mine = [torch.stack(values).mean(dim=0) for values in zip(*parts, strict=True)]
    *statistics, losses = mine
    buffers = distributed.norm_statistics(trainer.separator)
    for buffer, value in zip(buffers, statistics, strict=True):
        buffer.copy_(value)
    trainer.losses = list(losses.to(trainer.device))
    trainer.loss = within["loss"]
    trainer.recent.extend(within["recent"])
