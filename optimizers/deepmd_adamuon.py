"""DeePMD-kit's AdaMuon: sign-stabilized, element-wise adapted Muon for matrices with an Adam for vectors built in.

Si et al. 2025, arXiv 2507.11005, algorithm 1, as in DeePMD-kit's `deepmd/pt/optimizer/adamuon.py`.
"""

import math

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from bench.errors import OptionError
from optimizers.adam import calculate_adam_update
from optimizers.muon import momentum_direction_
from optimizers.newton_schulz import newton_schulz
from optimizers.rule import (
    Betas,
    ParamGroup,
    Rule,
    Scalar,
    cast,
    check_at_least,
    check_betas,
    check_count,
    check_fraction,
    ema_,
)
from optimizers.rule_optimizer import RuleOptimizer


def calculate_deepmd_adamuon_update(
    grad: Tensor,
    momentum_buffer: Tensor,
    v_buffer: Tensor,
    *,
    momentum: Scalar,
    nesterov: bool,
    ns_steps: int,
    lr_adjust: Scalar,
    lr_adjust_coeff: Scalar,
    eps: Scalar,
) -> Tensor:
    r"""The direction of a parameter of two or more axes, which is seen as `[shape[0], -1]`.

    $$m = \beta m + (1 - \beta) g, \quad O = \mathrm{NewtonSchulz}(\mathrm{sign}(d)), \quad
      v = \beta v + (1 - \beta) O^2, \quad U = O / (\sqrt v + \epsilon), \quad
      u = 0.2 \sqrt{rows \cdot cols}\, U / (\|U\|_F + \epsilon) \cdot s$$

    with d = m or, with nesterov, $\beta m + (1 - \beta) g$, and s = sqrt(max(1, rows / cols)) if lr_adjust > 0, else
    lr_adjust_coeff sqrt(max(rows, cols)).

    eps convention: outside the root, no bias correction, and again in the norm; 1e-8 bounds Newton-Schulz's norm.

    Args:
        grad: gradient `[..., *shape]`, the shape of a parameter behind any number of stacked axes; left unchanged.
        momentum_buffer: momentum m, `[..., rows, cols]`; changed in place.
        v_buffer: second moment v, `[..., rows, cols]`, at least float32; changed in place.
        momentum: decay rate beta of both moments.
        nesterov: look one step ahead.
        ns_steps: iterations of `newton_schulz`, which run in bfloat16.
        lr_adjust: which scale s is used.
        lr_adjust_coeff: factor of the scale where lr_adjust is not positive.
        eps: stability term.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    matrix = grad.reshape(momentum_buffer.shape)
    direction = momentum_direction_(momentum_buffer, matrix, momentum, nesterov)
    orthogonal = zeropower_via_newtonschulz5(direction.sign(), ns_steps).to(v_buffer.dtype)
    ema_(v_buffer, orthogonal * orthogonal, momentum)
    update = orthogonal / v_buffer.sqrt().add_(cast(eps, v_buffer))
    rows, cols = matrix.shape[-2:]
    norm = torch.linalg.vector_norm(update, dim=(-2, -1), keepdim=True).add_(cast(eps, v_buffer))
    adjusted, plain = math.sqrt(max(1.0, rows / cols)), lr_adjust_coeff * math.sqrt(max(rows, cols))
    scale = _where_positive(lr_adjust, adjusted, plain) * (0.2 * math.sqrt(rows * cols))
    return update.mul_(cast(scale, norm) / norm).reshape(grad.shape)


def zeropower_via_newtonschulz5(G: Tensor, steps: int = 5, eps: float = 1e-8) -> Tensor:
    """`newton_schulz` with the coefficients `simple`, always in bfloat16.

    Args:
        G: `[..., M, N]`; left unchanged.
        steps: iterations, 1 to 99.
        eps: lower bound of the Frobenius norm, see `newton_schulz`.

    Returns:
        `[..., M, N]` in bfloat16, a new tensor.

    Raises:
        ValueError: fewer than two axes, a step count out of its range.
    """
    return newton_schulz(G.to(torch.bfloat16), _check_steps("steps", steps), "simple", eps=eps)


def _prepare_muon_momentum(
    grad: Tensor, momentum_buffer: Tensor, beta: float, nesterov: bool
) -> tuple[Tensor, tuple[int, ...]]:
    """One parameter's direction as a matrix `[shape[0], -1]`, and its shape; changes the buffer, shaped as `grad`."""
    direction = momentum_direction_(momentum_buffer, grad, beta, nesterov)
    return direction.reshape(grad.shape[0], -1), tuple(grad.shape)


def _check_steps(name: str, steps: int) -> int:
    if check_count(name, steps) >= 100:
        raise OptionError(name, steps, "expected fewer than 100")
    return steps


def calculate_vector_update(
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    *,
    adam_betas: Betas,
    adam_eps: Scalar,
    lr_adjust: Scalar,
    step: int | Tensor,
) -> Tensor:
    """The direction of a parameter of fewer than two axes: Adam's, divided by lr_adjust where that is positive.

    eps convention: outside the root, after bias correction.

    Args:
        grad: gradient, any shape; left unchanged.
        exp_avg: first moment, the shape of `grad`, at least float32; changed in place.
        exp_avg_sq: second moment, likewise.
        adam_betas: decay rates (beta1, beta2).
        adam_eps: added to the root of the corrected second moment.
        lr_adjust: divisor of the learning rate.
        step: 1-based step count.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    update = calculate_adam_update(
        grad.to(exp_avg.dtype),
        exp_avg,
        exp_avg_sq,
        betas=adam_betas,
        eps=adam_eps,
        correct_bias=True,
        nesterov=False,
        step=step,
    )
    return update.div_(cast(_where_positive(lr_adjust, lr_adjust, 1.0), update))


def _where_positive(condition: Scalar, positive: Scalar, otherwise: Scalar) -> Scalar:
    if isinstance(condition, Tensor):
        return torch.where(condition > 0, positive, otherwise)
    return positive if condition > 0 else otherwise


def _init_matrix_state(param: Tensor) -> dict[str, Tensor]:
    buffer = torch.zeros_like(param, memory_format=torch.contiguous_format).view(param.shape[0], -1)
    return {"momentum_buffer": buffer, "v_buffer": torch.zeros_like(buffer, dtype=_at_least_float32(param))}


def _init_vector_state(param: Tensor) -> dict[str, Tensor]:
    dtype = _at_least_float32(param)
    return {name: torch.zeros_like(param, dtype=dtype) for name in ("exp_avg", "exp_avg_sq")}


def _at_least_float32(param: Tensor) -> torch.dtype:
    return torch.promote_types(param.dtype, torch.float32)


class AdaMuonOptimizer(RuleOptimizer):
    """AdaMuon for parameters of two or more axes, Adam without decay for the others.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        momentum: decay rate of both moments of a matrix, in [0, 1).
        weight_decay: decoupled decay coefficient of matrices.
        ns_steps: Newton-Schulz iterations, 1 to 99.
        adam_betas: decay rates of the vectors' moments, each in [0, 1).
        adam_eps: stability term of the vectors, outside the root and after bias correction.
        nesterov: look one step ahead in the matrices' momentum.
        lr_adjust: positive: vectors take lr / lr_adjust and matrices scale by sqrt(max(1, rows / cols)); else vectors
            take lr and matrices scale by lr_adjust_coeff sqrt(max(rows, cols)).
        lr_adjust_coeff: see lr_adjust.
        eps: stability term of the matrices.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    matrix_rule = Rule(calculate_deepmd_adamuon_update, _init_matrix_state, "stack")
    vector_rule = Rule(calculate_vector_update, _init_vector_state, "flat", decays=False)

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.001,
        ns_steps: int = 5,
        adam_betas: tuple[float, float] = (0.9, 0.95),
        adam_eps: float = 1e-8,
        nesterov: bool = True,
        lr_adjust: float = 10.0,
        lr_adjust_coeff: float = 0.2,
        eps: float = 1e-8,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "weight_decay_method": "decoupled",
            "ns_steps": ns_steps,
            "adam_betas": adam_betas,
            "adam_eps": adam_eps,
            "nesterov": nesterov,
            "lr_adjust": lr_adjust,
            "lr_adjust_coeff": lr_adjust_coeff,
            "eps": eps,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        group["momentum"] = check_fraction("momentum", group["momentum"])
        group["adam_betas"] = check_betas("adam_betas", group["adam_betas"], 2)
        for name in ("adam_eps", "lr_adjust_coeff", "eps"):
            group[name] = check_at_least(name, group[name], 0)
        group["lr_adjust"] = check_at_least("lr_adjust", group["lr_adjust"], -math.inf)
        _check_steps("ns_steps", group["ns_steps"])

    def rule_for(self, param: Tensor, group: ParamGroup) -> Rule:
        return self.matrix_rule if param.ndim >= 2 else self.vector_rule
