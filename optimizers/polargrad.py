"""PolarGrad, Muon's direction with the nuclear norm as its size. Lau, Long and Su 2025, arXiv 2505.21799."""

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers.muon import MatrixOptimizer, momentum_direction_, orthogonalize
from optimizers.rule import ParamGroup, Rule, Scalar, zeros_state


def calculate_polargrad_update(
    grad: Tensor,
    momentum_buffer: Tensor,
    *,
    momentum: Scalar,
    nesterov: bool,
    fp32_matmul_prec: str,
    coefficient_type: str,
    num_ns_steps: int,
) -> Tensor:
    r"""PolarGrad's direction with momentum first (algorithm PolarGradM).

    $$m = \beta m + (1 - \beta) g, \quad d = m \text{ or, with nesterov, } \beta m + (1 - \beta) g, \quad
      u = \langle d, U \rangle U, \quad U = \mathrm{NewtonSchulz}(d)$$

    For the polar factor U of d, $\langle d, U \rangle$ is the nuclear norm of d: unlike Muon's, the update grows with
    the gradient. The paper's U comes from QDWH or ZOLO-PD; here it comes from `newton_schulz`, whose coefficients
    `polar_express` converge to it.

    eps convention: none.

    Args:
        grad: gradient `[..., rows, cols]`; left unchanged.
        momentum_buffer: momentum m, the shape of `grad`; changed in place.
        momentum: decay rate beta.
        nesterov: look one step ahead.
        fp32_matmul_prec: `medium` iterates in bfloat16, `highest` in the dtype of `grad`.
        coefficient_type: coefficients of `newton_schulz`.
        num_ns_steps: iterations of `newton_schulz`.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    direction = momentum_direction_(momentum_buffer, grad, momentum, nesterov)
    polar = orthogonalize(direction, fp32_matmul_prec, coefficient_type, num_ns_steps)
    nuclear_norm = (direction * polar).sum((-2, -1), keepdim=True)
    return polar.mul_(nuclear_norm)


class PolarGrad(MatrixOptimizer):
    """PolarGrad, for two-dimensional parameters only.

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

    Raises:
        ValueError: an argument out of its range, a parameter that is no matrix; the message names it.
    """

    rule = Rule(calculate_polargrad_update, zeros_state("momentum_buffer"), "stack")

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = False,
        weight_decay_method: str = "decoupled",
        fp32_matmul_prec: str = "medium",
        coefficient_type: str = "polar_express",
        num_ns_steps: int = 8,
    ) -> None:
        defaults: ParamGroup = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "weight_decay_method": weight_decay_method,
            "fp32_matmul_prec": fp32_matmul_prec,
            "coefficient_type": coefficient_type,
            "num_ns_steps": num_ns_steps,
        }
        super().__init__(params, defaults)
