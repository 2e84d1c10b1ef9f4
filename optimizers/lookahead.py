r"""Lookahead: slow weights behind fast ones. Zhang et al. 2019, arXiv 1907.08610, algorithm 1.

$$\phi \leftarrow \phi + \alpha (\theta - \phi), \qquad \theta \leftarrow \phi$$

after every k-th step of the base, which trains theta. The base's state goes on across synchronisations. What is
evaluated are the slow weights phi, which the algorithm returns. There is no eps.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from bench.errors import OptionError
from optimizers.rule import check_count
from optimizers.wrapper import Wrapper


class Lookahead(Wrapper):
    """Pulls the weights that its base trains back, every few steps, towards an average behind them.

    Args:
        base: the optimizer, or several, that train the fast weights.
        k: steps from one synchronisation to the next.
        alpha: the slow weights' step size, in (0, 1]; with 1 the training is the base's.

    Raises:
        ValueError: an option out of its range, no optimizer to be put around.
    """

    def __init__(
        self, base: torch.optim.Optimizer | Sequence[torch.optim.Optimizer], k: int = 5, alpha: float = 0.5
    ) -> None:
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= 1:
            raise OptionError("alpha", alpha, "expected a number above 0 and at most 1")
        self._shows_slow = False
        super().__init__(base, {"k": check_count("k", k), "alpha": float(alpha)})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the base, and where it is due a synchronisation."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        params = [(param, group) for group in self.param_groups for param in group["params"]]
        for param, _ in params:
            if not self.state[param]:
                self.state[param].update(step=0, slow=param.clone())
        for base in self.bases:
            base.step()
        for param, group in params:
            state = self.state[param]
            state["step"] += 1
            if state["step"] % group["k"] == 0:
                param.copy_(state["slow"].lerp_(param, group["alpha"]))
        return loss

    def eval(self) -> None:
        self._show(slow=True)
        super().eval()

    def train(self) -> None:
        super().train()
        self._show(slow=False)

    @torch.no_grad()
    def _show(self, *, slow: bool) -> None:
        """Put the slow weights into the parameters, or the fast ones back."""
        if slow != self._shows_slow:
            self._shows_slow = slow
            for param, state in self.state.items():
                fast = param.clone()
                param.copy_(state["slow"])
                state["slow"].copy_(fast)
