"""AdEMAMix and its simplified form, Adam with a second, slow momentum.

Pagliardini, Ablin and Grangier 2024, arXiv 2409.03137, algorithm 1 and appendix A.1 (schedules); Morwani, Vyas, Zhang
and Kakade 2025, arXiv 2502.02431 (simplified).
"""

import math

import torch
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
    check_count,
    check_fraction,
    ema_,
    normalize,
    zeros_state,
)
from optimizers.rule_optimizer import RuleOptimizer


def calculate_ademamix_update(
    grad: Tensor,
    exp_avg_fast: Tensor,
    exp_avg_slow: Tensor,
    exp_avg_sq: Tensor,
    *,
    betas: Betas,
    eps: Scalar,
    correct_bias: bool,
    step: int | Tensor,
    num_beta_slow_warmup_steps: int | None,
    num_alpha_warmup_steps: int | None,
    alpha: Scalar = 2,
) -> Tensor:
    r"""AdEMAMix's direction.

    $$m_i = \beta_i m_i + (1 - \beta_i) g, \quad v = \beta_2 v + (1 - \beta_2) g^2, \quad
      u = (m_1 / (1 - \beta_1^t) + \alpha_t m_3) / (\sqrt{v / (1 - \beta_2^t)} + \epsilon)$$

    The slow momentum $m_3$ is never bias-corrected. $\alpha_t$ rises linearly from 0, $\beta_3$ from $\beta_1$ with a
    linearly growing half-life.

    eps convention: outside the root, after bias correction.

    Args:
        grad: gradient, any shape; left unchanged.
        exp_avg_fast: first moment m_1, the shape of `grad`; changed in place.
        exp_avg_slow: slow momentum m_3, the shape of `grad`; changed in place.
        exp_avg_sq: second moment v, the shape of `grad`; changed in place.
        betas: decay rates (beta_fast, beta2, final beta_slow).
        eps: added to the root of the corrected second moment.
        correct_bias: divide m_1 and v by 1 - beta^t.
        step: 1-based step count t.
        num_beta_slow_warmup_steps: length of beta_slow's schedule; None for a constant beta_slow.
        num_alpha_warmup_steps: length of alpha's schedule; None for a constant alpha.
        alpha: final weight of the slow momentum.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    beta_fast, beta2, beta_slow = betas
    beta_slow = _warm_up_beta(step, num_beta_slow_warmup_steps, beta_fast, beta_slow)
    ema_(exp_avg_fast, grad, beta_fast)
    ema_(exp_avg_slow, grad, beta_slow)
    ema_(exp_avg_sq, grad * grad, beta2)
    correction1, correction2 = (bias_correction(beta, step, correct_bias) for beta in (beta_fast, beta2))
    slow_weight = correction1 * _warm_up_alpha(step, num_alpha_warmup_steps, alpha)
    numerator = exp_avg_fast + exp_avg_slow * cast(slow_weight, grad)
    return normalize(numerator, exp_avg_sq, eps, correction1, correction2)


def calculate_sim_ademamix_update(
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    *,
    betas: Betas,
    eps: Scalar,
    correct_bias: bool,
    step: int | Tensor,
    num_beta_fast_warmup_steps: int | None,
    min_beta_fast: Scalar,
    alpha: Scalar = 2,
) -> Tensor:
    r"""Simplified AdEMAMix's direction: one momentum, a sum and not an average.

    $$m = \beta_1 m + g, \quad v = \beta_2 v + (1 - \beta_2) g^2, \quad
      u = (\alpha g + m (1 - \beta_1) / (1 - \beta_1^t)) / (\sqrt{v / (1 - \beta_2^t)} + \epsilon)$$

    with this step's $\beta_1$, which rises from `min_beta_fast` with a linearly growing half-life.

    eps convention: outside the root, after bias correction.

    Args:
        grad: gradient, any shape; left unchanged.
        exp_avg: momentum m, the shape of `grad`; changed in place.
        exp_avg_sq: second moment v, the shape of `grad`; changed in place.
        betas: decay rates (final beta_fast, beta2).
        eps: added to the root of the corrected second moment.
        correct_bias: divide m by (1 - beta^t) / (1 - beta) and v by 1 - beta^t.
        step: 1-based step count t.
        num_beta_fast_warmup_steps: length of beta_fast's schedule; None for a constant beta_fast.
        min_beta_fast: beta_fast at the schedule's beginning.
        alpha: weight of the newest gradient.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    beta_fast, beta2 = betas
    beta_fast = _warm_up_beta(step, num_beta_fast_warmup_steps, min_beta_fast, beta_fast)
    exp_avg.mul_(cast(beta_fast, grad)).add_(grad)
    ema_(exp_avg_sq, grad * grad, beta2)
    correction1 = (1 - beta_fast**step) / (1 - beta_fast) if correct_bias else 1.0
    correction2 = bias_correction(beta2, step, correct_bias)
    numerator = exp_avg + grad * cast(correction1 * alpha, grad)
    return normalize(numerator, exp_avg_sq, eps, correction1, correction2)


def _warm_up_alpha(step: int | Tensor, num_steps: int | None, end: Scalar) -> Scalar:
    if num_steps is None:
        return end
    return _until(step, num_steps, step / num_steps * end, end)


def _warm_up_beta(step: int | Tensor, num_steps: int | None, start: Scalar, end: Scalar) -> Scalar:
    if num_steps is None:
        return end
    progress = step / num_steps
    half_life = (1 - progress) * _half_life(start) + progress * _half_life(end)
    return _until(step, num_steps, 0.5 ** (1 / (half_life + 1)), end)


def _half_life(beta: Scalar) -> Scalar:
    """Steps after which an EMA's weight has halved, less one; 1e-8 keeps it defined for beta = 0."""
    log_beta = torch.log(beta + 1e-8) if isinstance(beta, Tensor) else math.log(beta + 1e-8)
    return math.log(0.5) / log_beta - 1


def _until(step: int | Tensor, num_steps: int, before: Scalar, after: Scalar) -> Scalar:
    """`before` while step < num_steps, then `after`."""
    if isinstance(step, Tensor):
        return torch.where(step < num_steps, torch.as_tensor(before, dtype=torch.float64), after)
    return before if step < num_steps else after


class AdEMAMix(RuleOptimizer):
    """AdEMAMix.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay rates (beta_fast, beta2, final beta_slow), each in [0, 1).
        eps: stability term, outside the root and after bias correction.
        weight_decay: decay coefficient.
        num_beta_slow_warmup_steps: steps in which beta_slow rises from beta_fast; None for none.
        num_alpha_warmup_steps: steps in which alpha rises from 0; None for none.
        alpha: final weight of the slow momentum.
        correct_bias: bias-correct the fast and the second moment.
        weight_decay_method: `decoupled`, `independent`, `l2` or `palm`.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    rule = Rule(calculate_ademamix_update, zeros_state("exp_avg_fast", "exp_avg_slow", "exp_avg_sq"), "flat")

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        num_beta_slow_warmup_steps: int | None = None,
        num_alpha_warmup_steps: int | None = None,
        alpha: float = 2,
        correct_bias: bool = True,
        weight_decay_method: str = "decoupled",
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "num_beta_slow_warmup_steps": num_beta_slow_warmup_steps,
            "num_alpha_warmup_steps": num_alpha_warmup_steps,
            "alpha": alpha,
            "correct_bias": correct_bias,
            "weight_decay_method": weight_decay_method,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        group["betas"] = check_betas("betas", group["betas"], 3)
        for name in ("eps", "alpha"):
            group[name] = check_at_least(name, group[name], 0)
        for name in ("num_beta_slow_warmup_steps", "num_alpha_warmup_steps"):
            if group[name] is not None:
                check_count(name, group[name])


class SimplifiedAdEMAMix(RuleOptimizer):
    """Simplified AdEMAMix. Its updates grow with 1 / (1 - beta_fast) without bias correction: lr goes down with it.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay rates (final beta_fast, beta2), each in [0, 1).
        eps: stability term, outside the root and after bias correction.
        weight_decay: decay coefficient.
        num_beta_fast_warmup_steps: steps in which beta_fast rises from min_beta_fast; None for none.
        min_beta_fast: beta_fast at the beginning of its schedule, in [0, 1).
        alpha: weight of the newest gradient.
        correct_bias: bias-correct both moments.
        weight_decay_method: `decoupled`, `independent`, `l2` or `palm`.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    rule = Rule(calculate_sim_ademamix_update, zeros_state("exp_avg", "exp_avg_sq"), "flat")

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9999, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        num_beta_fast_warmup_steps: int | None = None,
        min_beta_fast: float = 0.9,
        alpha: float = 2,
        correct_bias: bool = True,
        weight_decay_method: str = "decoupled",
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "num_beta_fast_warmup_steps": num_beta_fast_warmup_steps,
            "min_beta_fast": min_beta_fast,
            "alpha": alpha,
            "correct_bias": correct_bias,
            "weight_decay_method": weight_decay_method,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        group["betas"] = check_betas("betas", group["betas"], 2)
        group["min_beta_fast"] = check_fraction("min_beta_fast", group["min_beta_fast"])
        for name in ("eps", "alpha"):
            group[name] = check_at_least(name, group[name], 0)
        if group["num_beta_fast_warmup_steps"] is not None:
            check_count("num_beta_fast_warmup_steps", group["num_beta_fast_warmup_steps"])
