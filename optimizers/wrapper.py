"""What is put around whole optimizers, of ours or anybody's, and steps them: the base of SAM and Lookahead."""

from collections.abc import Sequence

import torch
from torch.optim.optimizer import StateDict

from bench.errors import OptionError
from optimizers.rule import ParamGroup


class Wrapper(torch.optim.Optimizer):
    """An optimizer around one or several others, whose parameter groups are its own.

    Args:
        base: the others; several where parameters of one model have different ones.
        defaults: the wrapper's hyperparameters, which join those of every group.

    Raises:
        ValueError: there is no optimizer to be put around.
    """

    def __init__(self, base: torch.optim.Optimizer | Sequence[torch.optim.Optimizer], defaults: ParamGroup) -> None:
        self.bases = [base] if isinstance(base, torch.optim.Optimizer) else list(base)
        if not self.bases or not all(isinstance(one, torch.optim.Optimizer) for one in self.bases):
            raise OptionError("base", None, "expected an optimizer, or several")
        super().__init__(self._base_groups(), defaults)

    def _base_groups(self) -> list[ParamGroup]:
        return [group for base in self.bases for group in base.param_groups]

    def state_dict(self) -> StateDict:
        return {"own": super().state_dict(), "bases": [base.state_dict() for base in self.bases]}

    def load_state_dict(self, state_dict: StateDict) -> None:
        for base, saved in zip(self.bases, state_dict["bases"], strict=True):
            base.load_state_dict(saved)
        super().load_state_dict(state_dict["own"])
        self.param_groups = self._base_groups()  # one and the same again: a schedule sets the lr of both

    def train(self) -> None:
        """Told before training steps."""
        self._switch("train")

    def eval(self) -> None:
        """Told before an evaluation."""
        self._switch("eval")

    def _switch(self, mode: str) -> None:
        for base in self.bases:
            if callable(switch := getattr(base, mode, None)):
                switch()
