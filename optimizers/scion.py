"""Scion, steps of a fixed length in the norm that fits a layer. Pethick et al. 2025, arXiv 2502.07529."""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from bench.errors import OptionError
from optimizers.muon import check_newton_schulz, orthogonalize
from optimizers.newton_schulz import power_of_two
from optimizers.rule import (
    ParamGroup,
    Rule,
    Scalar,
    cast,
    check_at_least,
    check_choice,
    check_fraction,
    ema_,
    zeros_state,
)
from optimizers.rule_optimizer import RuleOptimizer

NORMS = ("spectral", "sign", "rms")


def calculate_scion_update(
    grad: Tensor,
    momentum_buffer: Tensor,
    *,
    momentum: Scalar,
    norm: str,
    radius: Scalar,
    fp32_matmul_prec: str,
    coefficient_type: str,
    num_ns_steps: int,
) -> Tensor:
    r"""Scion's direction: steepest in a norm for the momentum, of the length `radius`.

    $$m = \beta m + (1 - \beta) g, \quad u = \rho \cdot \begin{cases}
      \sqrt{out / in}\, \mathrm{NewtonSchulz}(m) & \text{spectral, for hidden matrices} \\
      \mathrm{sign}(m) / in & \text{sign, for the output layer and embeddings} \\
      m / \mathrm{rms}(m) & \text{rms, for vectors} \end{cases}$$

    eps convention: none. No direction depends on the size of the gradients.

    Args:
        grad: gradient, `[..., out, in]` for spectral and sign, one parameter for rms; left unchanged.
        momentum_buffer: momentum m, the shape of `grad`; changed in place.
        momentum: decay rate beta, 1 - alpha in the paper.
        norm: `spectral`, `sign` or `rms`.
        radius: the length rho.
        fp32_matmul_prec: `medium` iterates in bfloat16, `highest` in the dtype of `grad`.
        coefficient_type: coefficients of `newton_schulz`.
        num_ns_steps: iterations of `newton_schulz`.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    ema_(momentum_buffer, grad, momentum)
    match norm:
        case "spectral":
            rows, cols = grad.shape[-2:]
            update = orthogonalize(momentum_buffer, fp32_matmul_prec, coefficient_type, num_ns_steps)
            scale = math.sqrt(rows / cols)
        case "sign":
            update, scale = momentum_buffer.sign(), 1 / grad.shape[-1]
        case _:
            update, scale = _over_its_rms(momentum_buffer), 1.0
    return update.mul_(cast(radius * scale, update))


def _over_its_rms(x: Tensor) -> Tensor:
    """`x` over its root mean square, 0 for a zero tensor."""
    x = x / power_of_two(x, dim=tuple(range(x.ndim)))
    rms = x.square().mean().sqrt()
    return x.div_(torch.where(rms == 0, 1.0, rms))


class Scion(RuleOptimizer):
    """Scion with one norm for all of its parameters: give each kind of layer a group or an optimizer of its own.

    With `weight_decay=1` it is the paper's constrained form (algorithm 2, SCG), which keeps every parameter within
    `radius` in its norm; with 0 the unconstrained one (algorithm 1).

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        momentum: decay rate of the momentum, in [0, 1).
        weight_decay: decay coefficient.
        norm: `spectral` or `sign`, for two-dimensional parameters, or `rms`.
        radius: length of the update before the learning rate, in that norm.
        weight_decay_method: `decoupled`, `independent`, `l2` or `palm`.
        fp32_matmul_prec: `medium` orthogonalizes in bfloat16, `highest` in the parameters' dtype.
        coefficient_type: coefficients of `newton_schulz`.
        num_ns_steps: iterations of `newton_schulz`.

    Raises:
        ValueError: an argument out of its range, a parameter that is no matrix for a norm of matrices.
    """

    rules: ClassVar[dict[str, Rule]] = {
        name: Rule(calculate_scion_update, zeros_state("momentum_buffer"), "single" if name == "rms" else "stack")
        for name in NORMS
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float = 3e-4,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        norm: str = "spectral",
        radius: float = 50.0,
        weight_decay_method: str = "decoupled",
        fp32_matmul_prec: str = "medium",
        coefficient_type: str = "simple",
        num_ns_steps: int = 5,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "norm": norm,
            "radius": radius,
            "weight_decay_method": weight_decay_method,
            "fp32_matmul_prec": fp32_matmul_prec,
            "coefficient_type": coefficient_type,
            "num_ns_steps": num_ns_steps,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        check_choice("norm", group["norm"], NORMS)
        check_newton_schulz(group)
        group["momentum"] = check_fraction("momentum", group["momentum"])
        group["radius"] = check_at_least("radius", group["radius"], 0)

    def check_param(self, param: Tensor, group: ParamGroup) -> None:
        super().check_param(param, group)
        if group["norm"] != "rms" and param.ndim != 2:
            raise OptionError("norm", group["norm"], f"a parameter of shape {tuple(param.shape)} is no matrix")

    def rule_for(self, param: Tensor, group: ParamGroup) -> Rule:
        return self.rules[group["norm"]]
