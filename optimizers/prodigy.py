"""Prodigy, AdamW that estimates its step size. Mishchenko and Defazio 2024, arXiv 2306.06101, algorithm 4."""

import torch
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
    check_fraction,
    ema_,
    zeros_state,
)
from optimizers.rule_optimizer import RuleOptimizer

NUMBERS = ("distance", "largest", "numerator")  # of the state, those of the whole model


def calculate_prodigy_update(
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq_scaled: Tensor,
    grad_sum: Tensor,
    displacement: Tensor,
    distance: Tensor,
    largest: Tensor,
    numerator: Tensor,
    *,
    lr: Scalar,
    betas: Betas,
    beta3: Scalar | None,
    eps: Scalar,
    weight_decay: Scalar,
    d0: Scalar,
    d_coef: Scalar,
    growth_rate: Scalar | None,
    correct_bias: bool,
    safeguard_warmup: bool,
    step: int | Tensor,
    param: Tensor,
) -> Tensor:
    r"""Prodigy's direction for all parameters of one model, joined in one vector.

    With d the estimate of the distance to the solution, $\gamma$ the learning rate times the bias correction:

    $$m = \beta_1 m + (1 - \beta_1) d g, \quad v = \beta_2 v + (1 - \beta_2) d^2 g^2, \quad
      r = \beta_3 r + \gamma d^2 / d_0 \langle g, p_0 - p \rangle, \quad s = \beta_3 s + \gamma d^2 / d_0\, g$$

    $$d' = \max(d, \hat d), \quad \hat d = c\, r / \|s\|_1, \quad u = d\, (m / (\sqrt v + d' \epsilon) + \lambda p)$$

    In this it follows the authors' code, which adds to the paper: the sums are divided by $d_0$, so that they stay in
    range, `safeguard_warmup` has d^2 / d_0 alone in s, and from its second growth on d' is at most
    `growth_rate` times d, on its way to the largest $\hat d$ so far.

    eps convention: outside the root, times the estimate.

    Args:
        grad: gradient `[P]`; left unchanged.
        exp_avg: first moment m, `[P]`; changed in place, like all that follow.
        exp_avg_sq_scaled: second moment v of d g, `[P]`.
        grad_sum: s, `[P]`.
        displacement: p_0 - p, `[P]`, summed from the steps: early on, a difference of weights would be rounding alone.
        distance: d, one number; 0 before the first step, which begins with d0.
        largest: the largest estimate so far, likewise.
        numerator: r, one number.
        lr: learning rate; where it is 0, neither an entry nor its share in the estimate moves.
        betas: decay rates (beta1, beta2).
        beta3: decay rate of r and s; None for the root of beta2.
        eps: added to the root of the second moment.
        weight_decay: decay coefficient lambda, decoupled and in proportion to the estimate.
        d0: the estimate at the beginning.
        d_coef: factor c on the estimate.
        growth_rate: the estimate grows by at most this factor per step; None for no bound.
        correct_bias: multiply the step by sqrt(1 - beta2^t) / (1 - beta1^t).
        safeguard_warmup: keep the learning rate of a warm-up out of s.
        step: 1-based step count t.
        param: the parameters p, `[P]`; left unchanged.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    beta1, beta2 = betas
    beta3 = beta2**0.5 if beta3 is None else beta3
    for number in (distance, largest):
        number.add_(cast(d0 * (step == 1), number))
    d = distance.clone()
    correction1, correction2 = bias_correction(beta1, step, correct_bias), bias_correction(beta2, step, correct_bias)
    size = cast(correction2**0.5 / correction1, grad) * d
    work = grad * d  # where all that is as long as the parameters is worked out: new memory takes longer than the work
    ema_(exp_avg, work, beta1)
    ema_(exp_avg_sq_scaled, work.mul_(work), beta2)

    moving, rate = cast(1.0 * (lr > 0), grad), cast(lr, grad)
    share = d / cast(d0, grad)
    correlation = work.copy_(grad).mul_(rate).mul_(displacement).sum()
    numerator.mul_(cast(beta3, grad)).add_(share * size * correlation)
    weight = share * (d * moving if safeguard_warmup else size * rate)
    grad_sum.mul_(cast(beta3, grad)).add_(work.copy_(grad).mul_(weight))
    total = work.copy_(grad_sum).abs_().mul_(moving).sum()
    estimate = torch.where(total > 0, cast(d_coef, grad) * numerator / total, d)
    largest.copy_(torch.maximum(largest, estimate))
    bound = largest
    if growth_rate is not None:
        bound = torch.where(d == cast(d0, grad), torch.maximum(d, estimate), d) * cast(growth_rate, grad)
    distance.copy_(torch.minimum(largest, bound))

    update = exp_avg / work.copy_(exp_avg_sq_scaled).sqrt_().add_(distance * cast(eps, grad))
    update.add_(work.copy_(param).mul_(cast(weight_decay, grad))).mul_(size)
    displacement.add_(work.copy_(update).mul_(rate))
    return update


def init_state(param: Tensor) -> dict[str, Tensor]:
    """The buffers of the joined parameters, in the order in which `calculate_prodigy_update` takes them."""
    return {
        **zeros_state("exp_avg", "exp_avg_sq_scaled", "grad_sum", "displacement")(param),
        **{name: param.new_zeros(()) for name in NUMBERS},
    }


class Prodigy(RuleOptimizer):
    """Prodigy. One estimate for all parameters of all groups; `lr` is a factor on it and is best left at 1.

    Args:
        params: parameters or parameter groups, which may differ in lr and weight_decay.
        lr: factor on the estimated step size.
        betas: decay rates of the first and second moment, each in [0, 1).
        beta3: decay rate of the estimate's sums, in [0, 1); None for the root of betas[1].
        eps: stability term, outside the root, times the estimate.
        weight_decay: decay coefficient, decoupled; like the step it is multiplied by the estimate.
        d0: the estimate at the beginning, smaller than any good step size.
        d_coef: factor on the estimate.
        growth_rate: the estimate grows by at most this factor per step, at least 1; None for no bound.
        correct_bias: multiply the step by sqrt(1 - beta2^t) / (1 - beta1^t).
        safeguard_warmup: keep the learning rate of a warm-up out of the estimate's denominator.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    rule = Rule(calculate_prodigy_update, init_state, "whole", decays=False, shared_state=NUMBERS)

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float | None = None,
        correct_bias: bool = False,
        safeguard_warmup: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "beta3": beta3,
            "eps": eps,
            "weight_decay": weight_decay,
            "weight_decay_method": "decoupled",
            "d0": d0,
            "d_coef": d_coef,
            "growth_rate": growth_rate,
            "correct_bias": correct_bias,
            "safeguard_warmup": safeguard_warmup,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        group["betas"] = check_betas("betas", group["betas"], 2)
        if group["beta3"] is not None:
            group["beta3"] = check_fraction("beta3", group["beta3"])
        for name in ("eps", "d_coef"):
            group[name] = check_at_least(name, group[name], 0)
        if check_at_least("d0", group["d0"], 0) == 0:
            raise OptionError("d0", 0, "expected a number above 0")
        if group["growth_rate"] is not None:
            group["growth_rate"] = check_at_least("growth_rate", group["growth_rate"], 1)
