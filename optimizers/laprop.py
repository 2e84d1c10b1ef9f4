"""LaProp: momentum of the normalized gradient. Ziyin, Wang and Ueda 2020, arXiv 2002.04839, algorithm 1."""

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers.rule import (
    Betas,
    ParamGroup,
    Rule,
    Scalar,
    bias_correction,
    check_at_least,
    check_betas,
    debias,
    ema_,
    normalize,
    zeros_state,
)
from optimizers.rule_optimizer import RuleOptimizer


def calculate_laprop_update(
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    *,
    betas: Betas,
    eps: Scalar,
    correct_bias: bool,
    step: int | Tensor,
) -> Tensor:
    r"""LaProp's direction.

    $$v = \beta_2 v + (1 - \beta_2) g^2, \quad g' = g / (\sqrt{v / (1 - \beta_2^t)} + \epsilon), \quad
      m = \beta_1 m + (1 - \beta_1) g', \quad u = m / (1 - \beta_1^t)$$

    eps convention: outside the root, after bias correction, before the momentum.

    Args:
        grad: gradient, any shape; left unchanged.
        exp_avg: momentum m of the normalized gradient, the shape of `grad`; changed in place.
        exp_avg_sq: second moment v, the shape of `grad`; changed in place.
        betas: decay rates (beta1, beta2).
        eps: added to the root of the corrected second moment.
        correct_bias: divide the moments by 1 - beta^t.
        step: 1-based step count t.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    beta1, beta2 = betas
    ema_(exp_avg_sq, grad * grad, beta2)
    correction_sq = bias_correction(beta2, step, correct_bias)
    ema_(exp_avg, normalize(grad, exp_avg_sq, eps, correction_sq=correction_sq), beta1)
    return debias(exp_avg, beta1, step, correct_bias)


class LaProp(RuleOptimizer):
    """LaProp.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay rates of the momentum and the second moment, each in [0, 1).
        eps: stability term, outside the root and after bias correction.
        weight_decay: decay coefficient.
        correct_bias: divide the moments by 1 - beta^t.
        weight_decay_method: `decoupled`, `independent`, `l2` or `palm`.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    rule = Rule(calculate_laprop_update, zeros_state("exp_avg", "exp_avg_sq"), "flat")

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        correct_bias: bool = True,
        weight_decay_method: str = "decoupled",
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "correct_bias": correct_bias,
            "weight_decay_method": weight_decay_method,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        group["betas"] = check_betas("betas", group["betas"], 2)
        group["eps"] = check_at_least("eps", group["eps"], 0)

    @staticmethod
    def first_update(grad: Tensor, group: ParamGroup) -> Tensor | None:
        """The first update in closed form, for the conformance check: bias correction makes the moments g' and g^2."""
        return grad / (grad.abs() + group["eps"]) if group["correct_bias"] else None
