"""Signum, the sign of the momentum. Bernstein et al. 2018, arXiv 1802.04434, algorithm 2."""

from torch import Tensor
from torch.optim.optimizer import ParamsT

from bench.errors import OptionError
from optimizers.rule import ParamGroup, Rule, Scalar, bias_correction, cast, check_fraction, ema_, zeros_state
from optimizers.rule_optimizer import RuleOptimizer


def calculate_signum_update(
    grad: Tensor,
    exp_avg: Tensor,
    *,
    momentum: Scalar,
    correct_bias: bool,
    nesterov: bool,
    step: int | Tensor,
    use_shape_scaling: bool = False,
) -> Tensor:
    r"""Signum's direction: every entry is -1, 0 or 1, times the shape's scale.

    $$m = \beta m + (1 - \beta) g, \quad u = \mathrm{sign}(m / (1 - \beta^t))$$

    With `nesterov` $u = \mathrm{sign}(\beta m / (1 - \beta^{t+1}) + (1 - \beta) g / (1 - \beta^t))$, the only case
    in which the bias correction can change a sign.

    eps convention: none.

    Args:
        grad: gradient, any shape; with `use_shape_scaling` `[..., rows, cols]` is a stack of matrices. Left unchanged.
        exp_avg: momentum m, the shape of `grad`; changed in place.
        momentum: decay rate beta.
        correct_bias: divide by 1 - beta^t.
        nesterov: look one step ahead.
        step: 1-based step count t.
        use_shape_scaling: multiply matrices by 2 / (rows + cols).

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    ema_(exp_avg, grad, momentum)
    if nesterov:
        ahead = momentum / bias_correction(momentum, step + 1, correct_bias)
        newest = (1 - momentum) / bias_correction(momentum, step, correct_bias)
        update = (exp_avg * cast(ahead, grad)).add_(grad * cast(newest, grad)).sign_()
    else:
        update = exp_avg.sign()
    if use_shape_scaling and grad.ndim >= 2:
        rows, cols = grad.shape[-2:]
        update.mul_(2 / (rows + cols))
    return update


class Signum(RuleOptimizer):
    """Signum.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        momentum: decay rate of the momentum, in [0, 1).
        weight_decay: decay coefficient.
        correct_bias: divide the moments by 1 - momentum^t; matters with nesterov only.
        nesterov: look one step ahead.
        use_shape_scaling: multiply the update of a matrix by 2 / (rows + cols).
        weight_decay_method: `decoupled`, `independent`, `l2` or `palm`.

    Raises:
        ValueError: an argument out of its range; use_shape_scaling with a parameter of more than two axes.
    """

    rule = Rule(calculate_signum_update, zeros_state("exp_avg"), "flat")
    matrix_rule = Rule(calculate_signum_update, zeros_state("exp_avg"), "stack")

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        correct_bias: bool = True,
        nesterov: bool = False,
        use_shape_scaling: bool = False,
        weight_decay_method: str = "decoupled",
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "correct_bias": correct_bias,
            "nesterov": nesterov,
            "use_shape_scaling": use_shape_scaling,
            "weight_decay_method": weight_decay_method,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        group["momentum"] = check_fraction("momentum", group["momentum"])

    @staticmethod
    def first_update(grad: Tensor, group: ParamGroup) -> Tensor | None:
        """The first update in closed form, for the conformance check."""
        return None if group["use_shape_scaling"] else grad.sign()

    def check_param(self, param: Tensor, group: ParamGroup) -> None:
        super().check_param(param, group)
        if group["use_shape_scaling"] and param.ndim > 2:
            raise OptionError("use_shape_scaling", True, f"a parameter of shape {tuple(param.shape)} is no matrix")

    def rule_for(self, param: Tensor, group: ParamGroup) -> Rule:
        return self.matrix_rule if group["use_shape_scaling"] and param.ndim == 2 else self.rule
