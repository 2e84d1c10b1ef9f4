"""ADOPT, Adam that divides by the second moment of earlier steps. Taniguchi et al. 2024, arXiv 2411.02853."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers.rule import Betas, ParamGroup, Rule, Scalar, cast, check_at_least, check_betas, ema_, zeros_state
from optimizers.rule_optimizer import RuleOptimizer


def calculate_adopt_update(
    grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, *, betas: Betas, eps: Scalar, step: int | Tensor
) -> Tensor:
    r"""ADOPT's direction (algorithm 2).

    $$g' = \mathrm{clip}(g / \max(\sqrt v, \epsilon), \pm (t - 1)^{1/4}), \quad m = \beta_1 m + (1 - \beta_1) g', \quad
      u = m, \quad v = \beta_2 v + (1 - \beta_2) g^2$$

    The first step moves nothing: it sets v to the first $g^2$, the paper's extra gradient at t = 0.

    eps convention: lower bound of the root, no bias correction.

    Args:
        grad: gradient, any shape; left unchanged.
        exp_avg: momentum m of the normalized gradient, the shape of `grad`; changed in place.
        exp_avg_sq: second moment v, the shape of `grad`; changed in place.
        betas: decay rates (beta1, beta2).
        eps: lower bound of the root of the second moment.
        step: 1-based step count t.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    beta1, beta2 = betas
    bound: Any = cast((step - 1) ** 0.25, grad)  # 0 at the first step, whatever the quotient
    smallest: Any = cast(eps, grad)
    normalized = (grad / exp_avg_sq.sqrt().clamp(min=smallest)).clamp(-bound, bound)
    ema_(exp_avg, normalized, beta1)
    ema_(exp_avg_sq, grad * grad, beta2 * (step > 1))
    return exp_avg.clone()


class ADOPT(RuleOptimizer):
    """ADOPT. The authors' code leaves the decay out of the first step; here it is as in every other.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay rates of the momentum and the second moment, each in [0, 1).
        eps: lower bound of the root of the second moment.
        weight_decay: decay coefficient.
        weight_decay_method: `decoupled`, `independent`, `l2` or `palm`.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    rule = Rule(calculate_adopt_update, zeros_state("exp_avg", "exp_avg_sq"), "flat")

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.9999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        weight_decay_method: str = "decoupled",
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "weight_decay_method": weight_decay_method,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        group["betas"] = check_betas("betas", group["betas"], 2)
        group["eps"] = check_at_least("eps", group["eps"], 0)

    @staticmethod
    def first_update(grad: Tensor, group: ParamGroup) -> Tensor:
        """The first update in closed form, for the conformance check."""
        return torch.zeros_like(grad)
