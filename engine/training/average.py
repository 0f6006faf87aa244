"""The average of the networks over the steps of training, which `--ema` evaluates and saves."""

import contextlib

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from engine.machine import distributed


class Average:
    """An exponential moving average of a module's weights and buffers, with `decay` a step; none for 0."""

    def __init__(self, module, decay):
        self.module = module
        self.model = None
        if decay:
            self.model = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

    def update(self):
        """Take in the module as it is after a step of the optimiser."""
        if self.model:
            self.model.update_parameters(self.module)

    def join(self):
        """Several processes: the mean of their batch normalisations' averaged statistics."""
        if self.model:
            distributed.average_norms(self.model)

    @contextlib.contextmanager
    def in_place(self):
        """A context in which the module has the average's weights and buffers."""
        if not self.model:
            yield
            return
        own = {key: value.clone() for key, value in self.module.state_dict().items()}
        self.module.load_state_dict(self.model.module.state_dict())
        try:
            yield
        finally:
            self.module.load_state_dict(own)

    def state_dict(self):
        """What `load_state_dict` goes on from, {} without an average."""
        return self.model.state_dict() if self.model else {}

    def load_state_dict(self, state):
        """Go on from what `state_dict` gave."""
        if self.model:
            self.model.load_state_dict(state)
