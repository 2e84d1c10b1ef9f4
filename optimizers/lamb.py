"""LAMB, Adam whose steps are in proportion to the weights. You et al. 2020, arXiv 1904.00962, algorithm 2."""

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers.adam import calculate_adam_update
from optimizers.rule import Betas, ParamGroup, Rule, Scalar, cast, check_at_least, check_betas, zeros_state
from optimizers.rule_optimizer import RuleOptimizer


def calculate_lamb_update(
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    *,
    betas: Betas,
    eps: Scalar,
    weight_decay: Scalar,
    correct_bias: bool,
    step: int | Tensor,
    param: Tensor,
) -> Tensor:
    r"""LAMB's direction for one parameter.

    $$r = \mathrm{Adam}(g) + \lambda p, \quad u = r \|p\| / \|r\|, \quad u = r \text{ where a norm is 0}$$

    The paper's $\phi$ is the identity here, as in its experiments; other codes bound $\|p\|$ by 10 or clip the gradient
    of the whole model first.

    eps convention: Adam's, outside the root, after bias correction.

    Args:
        grad: gradient of one parameter, any shape; left unchanged.
        exp_avg: first moment, the shape of `grad`; changed in place.
        exp_avg_sq: second moment, the shape of `grad`; changed in place.
        betas: decay rates (beta1, beta2).
        eps: added to the root of the corrected second moment.
        weight_decay: decay coefficient lambda, a part of what is scaled.
        correct_bias: divide the moments by 1 - beta^t.
        step: 1-based step count t.
        param: the parameter p; left unchanged.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    update = calculate_adam_update(
        grad, exp_avg, exp_avg_sq, betas=betas, eps=eps, correct_bias=correct_bias, nesterov=False, step=step
    )
    update.add_(param * cast(weight_decay, param))
    norm, length = torch.linalg.vector_norm(param), torch.linalg.vector_norm(update)
    return update.mul_(torch.where((norm == 0) | (length == 0), 1.0, norm / length))


class LAMB(RuleOptimizer):
    """LAMB. A parameter whose entries are all 0 takes Adam's step.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, the share of a parameter's norm that a step moves it by.
        betas: decay rates of the first and second moment, each in [0, 1).
        eps: stability term, outside the root and after bias correction.
        weight_decay: decay coefficient, a part of the update that is scaled to the parameter's norm.
        correct_bias: divide the moments by 1 - beta^t.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    rule = Rule(calculate_lamb_update, zeros_state("exp_avg", "exp_avg_sq"), "single", decays=False)

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        correct_bias: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "weight_decay_method": "decoupled",
            "correct_bias": correct_bias,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        group["betas"] = check_betas("betas", group["betas"], 2)
        group["eps"] = check_at_least("eps", group["eps"], 0)
