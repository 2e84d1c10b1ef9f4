r"""SAM: sharpness-aware minimization. Foret et al. 2021, arXiv 2010.01412, algorithm 1 with p = 2.

$$w' = w + \rho \frac{\nabla L(w)}{\|\nabla L(w)\|_2}, \qquad g = \nabla L(w')$$

The base takes its step from w along g; both gradients are of the same batch. The norm is over all parameters, so that
SAM goes around all optimizers of a model at once. A step costs two gradients. There is no eps: where the gradient is
zero, w' is w. Running statistics such as BatchNorm's see both passes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from optimizers.rule import check_at_least
from optimizers.wrapper import Wrapper


class SAM(Wrapper):
    """Steps its base along the gradient at the worst point nearby, to first order.

    Args:
        base: the optimizer, or several, that take the step.
        rho: the radius of the neighbourhood; with 0 it is the base.

    Raises:
        ValueError: a radius below 0, no optimizer to be put around.
    """

    def __init__(self, base: torch.optim.Optimizer | Sequence[torch.optim.Optimizer], rho: float = 0.05) -> None:
        super().__init__(base, {"rho": check_at_least("rho", rho, 0)})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """One step. `closure` clears the gradients, evaluates the loss on one batch, differentiates and returns it."""
        with torch.enable_grad():
            loss = closure()
        moved = self._ascend()
        with torch.enable_grad():
            closure()
        for param, value in moved:
            param.copy_(value)
        for base in self.bases:
            base.step()
        return loss

    def _ascend(self) -> list[tuple[Tensor, Tensor]]:
        """Move all parameters to the worst point; they are returned with their values before."""
        pairs = [(param, group["rho"]) for group in self.param_groups for param in group["params"]]
        used = [(param, param.grad, rho) for param, rho in pairs if param.grad is not None]
        norm = nn.utils.get_total_norm([grad for _, grad, _ in used])
        moved = []
        for param, grad, rho in used:
            moved.append((param, param.clone()))
            param.add_(torch.where(norm > 0, grad * (rho / norm), 0.0))
        return moved
