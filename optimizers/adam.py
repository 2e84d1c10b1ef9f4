"""Adam and AdamW. Kingma and Ba 2015, arXiv 1412.6980, algorithm 1; Loshchilov and Hutter 2019, arXiv 1711.05101."""

from torch import Tensor
from torch.optim.optimizer import ParamsT

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
    normalize,
    zeros_state,
)
from optimizers.rule_optimizer import RuleOptimizer


def calculate_adam_update(
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    *,
    betas: Betas,
    eps: Scalar,
    correct_bias: bool,
    nesterov: bool,
    step: int | Tensor,
) -> Tensor:
    r"""Adam's direction.

    $$m = \beta_1 m + (1 - \beta_1) g, \quad v = \beta_2 v + (1 - \beta_2) g^2, \quad
      u = \hat m / (\sqrt{v / (1 - \beta_2^t)} + \epsilon), \quad \hat m = m / (1 - \beta_1^t)$$

    With `nesterov` (Dozat 2016, with constant momentum)
    $\hat m = \beta_1 m / (1 - \beta_1^{t+1}) + (1 - \beta_1) g / (1 - \beta_1^t)$.

    eps convention: outside the root, after bias correction.

    Args:
        grad: gradient, any shape; left unchanged.
        exp_avg: first moment m, the shape of `grad`; changed in place.
        exp_avg_sq: second moment v, the shape of `grad`; changed in place.
        betas: decay rates (beta1, beta2).
        eps: added to the root of the corrected second moment.
        correct_bias: divide the moments by 1 - beta^t.
        nesterov: look one step ahead in the first moment.
        step: 1-based step count t.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    beta1, beta2 = betas
    ema_(exp_avg, grad, beta1)
    ema_(exp_avg_sq, grad * grad, beta2)
    correction1, correction2 = bias_correction(beta1, step, correct_bias), bias_correction(beta2, step, correct_bias)
    numerator = exp_avg
    if nesterov:
        ahead = beta1 * correction1 / bias_correction(beta1, step + 1, correct_bias)
        numerator = (exp_avg * cast(ahead, grad)).add_(grad * cast(1 - beta1, grad))
    return normalize(numerator, exp_avg_sq, eps, correction1, correction2)


class Adam(RuleOptimizer):
    """Adam, by default with L2 regularization as in `torch.optim.Adam`.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay rates of the first and second moment, each in [0, 1).
        eps: stability term, outside the root and after bias correction.
        weight_decay: decay coefficient.
        correct_bias: divide the moments by 1 - beta^t.
        nesterov: look one step ahead in the first moment (NAdam with constant momentum).
        weight_decay_method: `decoupled`, `independent`, `l2` or `palm`.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    rule = Rule(calculate_adam_update, zeros_state("exp_avg", "exp_avg_sq"), "flat")

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        correct_bias: bool = True,
        nesterov: bool = False,
        weight_decay_method: str = "l2",
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "correct_bias": correct_bias,
            "nesterov": nesterov,
            "weight_decay_method": weight_decay_method,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        group["betas"] = check_betas("betas", group["betas"], 2)
        group["eps"] = check_at_least("eps", group["eps"], 0)

    @staticmethod
    def first_update(grad: Tensor, group: ParamGroup) -> Tensor | None:
        """The first update in closed form, for the conformance check: bias correction makes the moments g and g^2."""
        if not group["correct_bias"] or group["nesterov"]:
            return None
        denominator: Tensor = grad.abs() + group["eps"]
        return grad / denominator


class AdamW(Adam):
    """Adam with decoupled weight decay. Arguments and errors are those of `Adam`; weight_decay is 0.01 by default."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        correct_bias: bool = True,
        nesterov: bool = False,
        weight_decay_method: str = "decoupled",
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            correct_bias=correct_bias,
            nesterov=nesterov,
            weight_decay_method=weight_decay_method,
        )
