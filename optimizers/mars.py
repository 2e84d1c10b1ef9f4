"""MARS, AdamW on a variance-reduced gradient. Yuan et al. 2024, arXiv 2411.10438, algorithm 2 (MARS-AdamW)."""

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers.adam import calculate_adam_update
from optimizers.rule import Betas, ParamGroup, Rule, Scalar, cast, check_at_least, check_betas, zeros_state
from optimizers.rule_optimizer import RuleOptimizer


def calculate_mars_update(
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    last_grad: Tensor,
    *,
    betas: Betas,
    gamma: Scalar,
    eps: Scalar,
    correct_bias: bool,
    step: int | Tensor,
) -> Tensor:
    r"""MARS-AdamW's direction.

    $$c = g + \gamma \frac{\beta_1}{1 - \beta_1} (g - g_{last}), \quad c' = c / \max(\|c\|, 1), \quad
      u = \mathrm{Adam}(c')$$

    `last_grad` is the gradient of the last step at the weights and on the batch of then, the paper's approximate form
    (section 3.3), which needs no second gradient; it is 0 before the first step, as in the authors' code. The norm is
    that of one parameter, and its bound of 1 makes MARS depend on the size of the gradients.

    eps convention: Adam's, outside the root, after bias correction.

    Args:
        grad: gradient of one parameter, any shape; left unchanged.
        exp_avg: first moment of c', the shape of `grad`; changed in place.
        exp_avg_sq: second moment of c', the shape of `grad`; changed in place.
        last_grad: the gradient of the last step, the shape of `grad`; changed in place.
        betas: decay rates (beta1, beta2).
        gamma: strength of the correction; 0 is Adam on gradients of a norm of at most 1.
        eps: added to the root of the corrected second moment.
        correct_bias: divide the moments by 1 - beta^t.
        step: 1-based step count t.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    weight = gamma * betas[0] / (1 - betas[0])
    corrected = (grad - last_grad).mul_(cast(weight, grad)).add_(grad)
    corrected.div_(torch.linalg.vector_norm(corrected).clamp(min=1.0))
    last_grad.copy_(grad)
    return calculate_adam_update(
        corrected, exp_avg, exp_avg_sq, betas=betas, eps=eps, correct_bias=correct_bias, nesterov=False, step=step
    )


class MARS(RuleOptimizer):
    """MARS-AdamW. The authors' code gives vectors to plain AdamW; that is up to the parameters that it is given.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay rates of the first and second moment, each in [0, 1).
        gamma: strength of the correction by the last gradient.
        eps: stability term, outside the root and after bias correction.
        weight_decay: decay coefficient.
        correct_bias: divide the moments by 1 - beta^t.
        weight_decay_method: `decoupled`, `independent`, `l2` or `palm`.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    rule = Rule(calculate_mars_update, zeros_state("exp_avg", "exp_avg_sq", "last_grad"), "single")

    def __init__(
        self,
        params: ParamsT,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.99),
        gamma: float = 0.025,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        correct_bias: bool = True,
        weight_decay_method: str = "decoupled",
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "gamma": gamma,
            "eps": eps,
            "weight_decay": weight_decay,
            "correct_bias": correct_bias,
            "weight_decay_method": weight_decay_method,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        group["betas"] = check_betas("betas", group["betas"], 2)
        for name in ("gamma", "eps"):
            group[name] = check_at_least(name, group[name], 0)
