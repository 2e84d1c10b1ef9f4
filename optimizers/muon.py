"""Muon, orthogonalized momentum for matrices. Jordan et al. 2024, "Muon: an optimizer for hidden layers"."""

import math

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers.newton_schulz import BUILT_IN_TYPES, check_coefficients, newton_schulz, power_of_two
from optimizers.rule import (
    ParamGroup,
    Rule,
    Scalar,
    cast,
    check_at_least,
    check_choice,
    check_count,
    check_fraction,
    ema_,
    lerp,
    zeros_state,
)
from optimizers.rule_optimizer import RuleOptimizer

SCALE_MODES = ("spectral", "shape_scaling", "unit_rms_norm")
MATMUL_PRECISIONS = ("medium", "highest")


def calculate_muon_update(
    grad: Tensor,
    momentum_buffer: Tensor,
    *,
    momentum: Scalar,
    nesterov: bool,
    fp32_matmul_prec: str,
    coefficient_type: str,
    num_ns_steps: int,
    scale_mode: str,
    extra_scale_factor: Scalar,
) -> Tensor:
    r"""Muon's direction.

    $$m = \beta m + (1 - \beta) g, \quad d = m \text{ or, with nesterov, } \beta m + (1 - \beta) g, \quad
      u = s\, \mathrm{NewtonSchulz}(d)$$

    eps convention: none. Multiplying every gradient by a power of two leaves the update bit-identical as long as
    nothing under- or overflows, see `newton_schulz`.

    Args:
        grad: gradient `[..., rows, cols]`; left unchanged.
        momentum_buffer: momentum m, the shape of `grad`; changed in place.
        momentum: decay rate beta.
        nesterov: look one step ahead.
        fp32_matmul_prec: `medium` iterates in bfloat16, `highest` in the dtype of `grad`.
        coefficient_type: coefficients of `newton_schulz`.
        num_ns_steps: iterations of `newton_schulz`.
        scale_mode: how the shape scales the update, see `matrix_scale`.
        extra_scale_factor: multiplies the update.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    direction = momentum_direction_(momentum_buffer, grad, momentum, nesterov)
    update = orthogonalize(direction, fp32_matmul_prec, coefficient_type, num_ns_steps)
    return update.mul_(cast(matrix_scale(grad, scale_mode) * extra_scale_factor, update))


def momentum_direction_(momentum_buffer: Tensor, grad: Tensor, momentum: Scalar, nesterov: bool) -> Tensor:
    """Changes the buffer to its EMA with `grad`; returns it or, with nesterov, its next value were `grad` the same."""
    ema_(momentum_buffer, grad, momentum)
    return lerp(grad, momentum_buffer, momentum) if nesterov else momentum_buffer


def orthogonalize(direction: Tensor, fp32_matmul_prec: str, coefficient_type: str, num_ns_steps: int) -> Tensor:
    """`newton_schulz` of `[..., rows, cols]` in bfloat16 (`medium`) or its own dtype (`highest`), a new tensor."""
    x = direction
    if fp32_matmul_prec == "medium":
        x = (x / power_of_two(x)).to(torch.bfloat16)  # a subnormal entry would lose bits on its way
    return newton_schulz(x, num_ns_steps, coefficient_type).contiguous().to(direction.dtype)


def matrix_scale(matrix: Tensor, scale_mode: str) -> float:
    """The scale of an orthogonalized update `[..., out, in]`.

    `spectral` sqrt(max(out, in)), an element of about Adam's size; `shape_scaling` sqrt(max(1, out / in));
    `unit_rms_norm` sqrt(out / in).
    """
    rows, cols = matrix.shape[-2:]
    if scale_mode == "spectral":
        return math.sqrt(max(rows, cols))
    ratio = rows / cols
    return math.sqrt(max(1.0, ratio) if scale_mode == "shape_scaling" else ratio)


def check_newton_schulz(group: ParamGroup) -> None:
    """Raises ValueError for what `orthogonalize` cannot take."""
    check_choice("fp32_matmul_prec", group["fp32_matmul_prec"], MATMUL_PRECISIONS)
    check_choice("coefficient_type", group["coefficient_type"], BUILT_IN_TYPES)
    check_coefficients(check_count("num_ns_steps", group["num_ns_steps"]), group["coefficient_type"])


class MatrixOptimizer(RuleOptimizer):
    """Base of the Muon family: checks their common hyperparameters and takes two-dimensional parameters only."""

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        check_newton_schulz(group)
        group["momentum"] = check_fraction("momentum", group["momentum"])
        if "scale_mode" in group:
            check_choice("scale_mode", group["scale_mode"], SCALE_MODES)
            group["extra_scale_factor"] = check_at_least("extra_scale_factor", group["extra_scale_factor"], 0)

    def check_param(self, param: Tensor, group: ParamGroup) -> None:
        super().check_param(param, group)
        if param.ndim != 2:
            raise ValueError(f"a parameter of shape {tuple(param.shape)}: {type(self).__name__} takes matrices only")


class Muon(MatrixOptimizer):
    """Muon, for two-dimensional parameters only.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        momentum: decay rate of the momentum, in [0, 1).
        weight_decay: decay coefficient.
        nesterov: look one step ahead.
        weight_decay_method: `decoupled`, `independent`, `l2` or `palm`.
        fp32_matmul_prec: `medium` orthogonalizes in bfloat16, `highest` in the parameters' dtype.
        coefficient_type: coefficients of `newton_schulz`.
        num_ns_steps: iterations of `newton_schulz`.
        scale_mode: how the shape scales the update, see `matrix_scale`.
        extra_scale_factor: multiplies the update.

    Raises:
        ValueError: an argument out of its range, a parameter that is no matrix; the message names it.
    """

    rule = Rule(calculate_muon_update, zeros_state("momentum_buffer"), "stack")

    def __init__(
        self,
        params: ParamsT,
        lr: float = 3e-4,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        *,
        nesterov: bool = False,
        weight_decay_method: str = "decoupled",
        fp32_matmul_prec: str = "medium",
        coefficient_type: str = "quintic",
        num_ns_steps: int = 5,
        scale_mode: str = "spectral",
        extra_scale_factor: float = 1.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "weight_decay_method": weight_decay_method,
            "fp32_matmul_prec": fp32_matmul_prec,
            "coefficient_type": coefficient_type,
            "num_ns_steps": num_ns_steps,
            "scale_mode": scale_mode,
            "extra_scale_factor": extra_scale_factor,
        }
        super().__init__(params, defaults)
