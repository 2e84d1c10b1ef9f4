"""Muon with a second moment: AdaMuon (arXiv 2507.11005), NorMuon (2510.05491) and NAMO (2602.17080)."""

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from bench.errors import OptionError
from optimizers.muon import MatrixOptimizer, matrix_scale, momentum_direction_, orthogonalize
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

MOMENT2_METHODS = ("adamuon", "normuon", "namo")


def calculate_adaptive_muon_update(
    grad: Tensor,
    momentum_buffer: Tensor,
    moment2_buffer: Tensor,
    *,
    momentum: Scalar,
    nesterov: bool,
    fp32_matmul_prec: str,
    coefficient_type: str,
    num_ns_steps: int,
    scale_mode: str,
    extra_scale_factor: Scalar,
    moment2_method: str,
    beta2: Scalar,
    eps: Scalar,
) -> Tensor:
    r"""Muon's direction with its raw orthogonalization O adapted by a second moment before Muon's scale.

    See `adapt_adamuon`, `adapt_normuon` and `adapt_namo`; none of them is bias-corrected. The other arguments are
    those of `calculate_muon_update`.

    eps convention: outside the root (adamuon, namo), lower bound of the second moment inside the root (normuon).

    Args:
        grad: gradient `[..., rows, cols]`; left unchanged.
        momentum_buffer: momentum, the shape of `grad`; changed in place.
        moment2_buffer: second moment, the shape of `grad` (adamuon), of a row or a column (normuon), or `[..., 1]`,
            one number per matrix (namo); changed in place.
        moment2_method: `adamuon`, `normuon` or `namo`.
        beta2: decay rate of the second moment.
        eps: stability term.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    direction = momentum_direction_(momentum_buffer, grad, momentum, nesterov)
    orthogonal = orthogonalize(direction, fp32_matmul_prec, coefficient_type, num_ns_steps)
    match moment2_method:
        case "adamuon":
            update = adapt_adamuon(orthogonal, moment2_buffer, beta2, eps)
        case "normuon":
            update = adapt_normuon(orthogonal, moment2_buffer, beta2, eps)
        case _:
            update = adapt_namo(orthogonal, moment2_buffer, beta2, eps, grad, direction)
    return update.mul_(cast(matrix_scale(grad, scale_mode) * extra_scale_factor, update))


def adapt_adamuon(orthogonal: Tensor, moment2: Tensor, beta2: Scalar, eps: Scalar) -> Tensor:
    r"""By element, in place: $V = \beta_2 V + (1 - \beta_2) O^2$, then $O / (\sqrt V + \epsilon)$ (algorithm 1)."""
    ema_(moment2, orthogonal * orthogonal, beta2)
    return orthogonal.div_(moment2.sqrt().add_(cast(eps, moment2)))


def adapt_normuon(orthogonal: Tensor, moment2: Tensor, beta2: Scalar, eps: Scalar) -> Tensor:
    r"""By row, or by column of a wide matrix, in place; the update keeps O's Frobenius norm (algorithm 1).

    $$V = \beta_2 V + (1 - \beta_2) \mathrm{mean}(O^2), \quad U = O / \sqrt{\max(V, \epsilon)}, \quad
      U \|O\|_F / \max(\|U\|_F, \epsilon)$$
    """
    norm = _frobenius_norm(orthogonal)
    ema_(moment2, (orthogonal * orthogonal).mean(_averaged_axis(orthogonal), keepdim=True), beta2)
    update = orthogonal.mul_(_at_least(moment2, eps).rsqrt())
    return update.mul_(norm / _at_least(_frobenius_norm(update), eps))


def adapt_namo(
    orthogonal: Tensor, moment2: Tensor, beta2: Scalar, eps: Scalar, grad: Tensor, direction: Tensor
) -> Tensor:
    r"""By matrix, in place: $v = \beta_2 v + (1 - \beta_2) \|G\|_F^2$, then $O \|D\|_F / (\sqrt v + \epsilon)$.

    The norms are taken in the dtype of `moment2`: float64 holds the square of any float32 gradient. With eps = 0,
    multiplying every gradient by a power of two leaves the update bit-identical; 0 / 0 is 0.
    """
    ema_(moment2, _frobenius_norm(grad, moment2.dtype).square().squeeze(-1), beta2)
    denominator = moment2.sqrt().add_(cast(eps, moment2))[..., None]
    norm = _frobenius_norm(direction, moment2.dtype)
    return orthogonal.mul_(torch.where(norm == 0, 0.0, norm / denominator).to(orthogonal.dtype))


def _frobenius_norm(matrix: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(matrix, dim=(-2, -1), keepdim=True, dtype=dtype)
    return norm


def _at_least(x: Tensor, minimum: Scalar) -> Tensor:
    clamped: Tensor = x.clamp(min=cast(minimum, x))
    return clamped


def _averaged_axis(matrix: Tensor) -> int:
    return -1 if matrix.shape[-2] >= matrix.shape[-1] else -2


def init_state(param: Tensor, moment2_method: str) -> dict[str, Tensor]:
    """The buffers of one matrix, in the order in which `calculate_adaptive_muon_update` takes them."""
    shape = list(param.shape)
    if moment2_method == "normuon":
        shape[_averaged_axis(param)] = 1
    moment2 = param.new_zeros(shape)
    if moment2_method == "namo":
        moment2 = param.new_zeros(1, dtype=torch.float64)
    return {**zeros_state("momentum_buffer")(param), "moment2_buffer": moment2}


class AdaptiveMuon(MatrixOptimizer):
    """Muon with a second moment, for two-dimensional parameters only.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        momentum: decay rate of the momentum, in [0, 1).
        weight_decay: decay coefficient.
        nesterov: look one step ahead.
        weight_decay_method: `decoupled`, `independent`, `l2` (not with `namo`) or `palm`.
        fp32_matmul_prec: `medium` orthogonalizes in bfloat16, `highest` in the parameters' dtype.
        coefficient_type: coefficients of `newton_schulz`.
        num_ns_steps: iterations of `newton_schulz`.
        scale_mode: how the shape scales the update, see `matrix_scale`.
        extra_scale_factor: multiplies the update.
        moment2_method: `adamuon`, `normuon` or `namo`.
        beta2: decay rate of the second moment, in [0, 1).
        eps: stability term, see `calculate_adaptive_muon_update`.

    Raises:
        ValueError: an argument out of its range, a parameter that is no matrix, `namo` with `l2`, which would count
            the weights as gradient.
    """

    rules: ClassVar[dict[str, Rule]] = {
        method: Rule(calculate_adaptive_muon_update, partial(init_state, moment2_method=method), "stack")
        for method in MOMENT2_METHODS
    }

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
        moment2_method: str = "adamuon",
        beta2: float = 0.95,
        eps: float = 1e-8,
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
            "moment2_method": moment2_method,
            "beta2": beta2,
            "eps": eps,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        method = check_choice("moment2_method", group["moment2_method"], MOMENT2_METHODS)
        if method == "namo" and group["weight_decay_method"] == "l2":
            raise OptionError(
                "weight_decay_method", "l2", "not with moment2_method='namo', which needs the raw gradient"
            )
        group["beta2"] = check_fraction("beta2", group["beta2"])
        group["eps"] = check_at_least("eps", group["eps"], 0)

    def rule_for(self, param: Tensor, group: ParamGroup) -> Rule:
        return self.rules[group["moment2_method"]]
