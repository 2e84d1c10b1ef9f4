"""QHAdamW, quasi-hyperbolic Adam with decoupled decay. Ma and Yarats 2019, arXiv 1810.06801, section 4."""

from collections.abc import Iterable

from torch import Tensor
from torch.optim.optimizer import ParamsT

from bench.errors import OptionError
from optimizers.rule import (
    Betas,
    ParamGroup,
    Rule,
    Scalar,
    bias_correction,
    cast,
    check_at_least,
    check_betas,
    ema_,
    lerp,
    normalize,
    zeros_state,
)
from optimizers.rule_optimizer import RuleOptimizer


def calculate_qhadam_update(
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    *,
    betas: Betas,
    nus: Betas,
    eps: Scalar,
    step: int | Tensor,
) -> Tensor:
    r"""QHAdam's direction, Adam's with each moment mixed with its newest term.

    $$u = ((1 - \nu_1) g + \nu_1 \hat m) / (\sqrt{(1 - \nu_2) g^2 + \nu_2 \hat v} + \epsilon), \quad
      \hat m = m / (1 - \beta_1^t), \quad \hat v = v / (1 - \beta_2^t)$$

    eps convention: outside the root, after bias correction.

    Args:
        grad: gradient, any shape; left unchanged.
        exp_avg: first moment m, the shape of `grad`; changed in place.
        exp_avg_sq: second moment v, the shape of `grad`; changed in place.
        betas: decay rates (beta1, beta2).
        nus: the moments' weights (nu1, nu2); (1, 1) is Adam.
        eps: added to the root.
        step: 1-based step count t.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    (beta1, beta2), (nu1, nu2) = betas, nus
    grad_sq = grad * grad
    ema_(exp_avg, grad, beta1)
    ema_(exp_avg_sq, grad_sq, beta2)
    correction1, correction2 = bias_correction(beta1, step, True), bias_correction(beta2, step, True)
    mean = lerp(grad * cast(correction1, grad), exp_avg, nu1)
    mean_sq = lerp(grad_sq * cast(correction2, grad), exp_avg_sq, nu2)
    return normalize(mean, mean_sq, eps, correction1, correction2)


def check_nus(nus: Iterable[float]) -> tuple[float, ...]:
    """`nus` as floats. Raises ValueError unless they are two numbers in [0, 1]."""
    values = tuple(nus)
    if len(values) != 2 or not all(0 <= nu <= 1 for nu in values):
        raise OptionError("nus", values, "expected 2 numbers in [0, 1]")
    return tuple(float(nu) for nu in values)


class QHAdamW(RuleOptimizer):
    """QHAdam with decoupled weight decay.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay rates of the first and second moment, each in [0, 1).
        nus: weights of the two moments against the newest gradient, each in [0, 1]; (1, 1) is AdamW.
        eps: stability term, outside the root and after bias correction.
        weight_decay: decay coefficient.
        weight_decay_method: `decoupled`, `independent`, `l2` or `palm`.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    rule = Rule(calculate_qhadam_update, zeros_state("exp_avg", "exp_avg_sq"), "flat")

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.995, 0.999),
        nus: tuple[float, float] = (0.7, 1.0),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        weight_decay_method: str = "decoupled",
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "nus": nus,
            "eps": eps,
            "weight_decay": weight_decay,
            "weight_decay_method": weight_decay_method,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        group["betas"] = check_betas("betas", group["betas"], 2)
        group["nus"] = check_nus(group["nus"])
        group["eps"] = check_at_least("eps", group["eps"], 0)

    @staticmethod
    def first_update(grad: Tensor, group: ParamGroup) -> Tensor:
        """The first update in closed form, for the conformance check: both moments are their newest term."""
        denominator: Tensor = grad.abs() + group["eps"]
        return grad / denominator
