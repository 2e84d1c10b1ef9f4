"""Schedule-free AdamW, whose average takes the place of a decaying lr. Defazio et al. 2024, arXiv 2405.15682."""

from collections.abc import Mapping
from typing import Any

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
    ema_,
    lerp,
    normalize,
)
from optimizers.rule_optimizer import RuleOptimizer

TINY = 1e-300  # stands for the sum of weights while every lr was 0


def calculate_schedule_free_adamw_update(
    grad: Tensor,
    exp_avg_sq: Tensor,
    *,
    betas: Betas,
    eps: Scalar,
    weight_decay: Scalar,
    param: Tensor,
    step: int | Tensor,
) -> Tensor:
    r"""The direction of z, from the gradient at the training point y.

    $$v = \beta_2 v + (1 - \beta_2) g^2, \quad u = g / (\sqrt{v / (1 - \beta_2^t)} + \epsilon) + \lambda y$$

    eps convention: outside the root, after bias correction.

    Args:
        grad: gradient at y, any shape; left unchanged.
        exp_avg_sq: second moment v, the shape of `grad`; changed in place.
        betas: (beta1, the average's share in the training point; beta2, the second moment's decay rate).
        eps: added to the root of the corrected second moment.
        weight_decay: lambda; the decay is taken at y.
        param: y; left unchanged.
        step: 1-based step count t.

    Returns:
        The update of z before the learning rate, a new tensor in the shape of `grad`.
    """
    ema_(exp_avg_sq, grad * grad, betas[1])
    update = normalize(grad, exp_avg_sq, eps, correction_sq=bias_correction(betas[1], step, True))
    return update.add_(cast(weight_decay, param) * param)


def move_schedule_free(
    param: Tensor, update: Tensor, lr: Scalar, z: Tensor, x: Tensor, *, betas: Betas, share: Scalar
) -> None:
    r"""The three points, all in place; `update` is not needed any more.

    $$z = z - \gamma u, \quad x = (1 - c) x + c z, \quad y = (1 - \beta_1) z + \beta_1 x$$

    Args:
        param: y, where gradients are taken.
        update: u.
        lr: gamma.
        z: the steps without momentum.
        x: their average, which is evaluated.
        betas: beta1 comes first.
        share: c.
    """
    z.sub_(update.mul_(cast(lr, update)))
    x.copy_(lerp(x, z, share))
    param.copy_(lerp(x, z, 1 - betas[0]))


def weigh_step(group: Mapping[str, Any]) -> dict[str, Scalar]:
    r"""What the step after this one weighs in the average: $c_t = \gamma_t^2 / \sum_{i \le t} \gamma_i^2$.

    The squares keep small steps of a warm-up out of the average. As in the authors' code, gamma is the largest lr so
    far; the paper's is the lr itself, which is the same wherever lr does not fall.
    """
    if not group["training"]:
        raise RuntimeError("a step in evaluation mode: call train() on the optimizer first")
    largest = _at_least(group["lr"], group["largest_lr"])
    total = group["weight_sum"] + largest**2
    return {"largest_lr": largest, "weight_sum": total, "share": largest**2 / _at_least(total, TINY)}


def _at_least(value: Scalar, floor: Scalar) -> Scalar:
    if isinstance(value, Tensor):
        return torch.clamp(value, min=floor)
    return max(value, float(floor))


def init_state(param: Tensor) -> dict[str, Tensor]:
    """v, z and x of a parameter; the points all begin where the parameter is."""
    point = param.detach().clone(memory_format=torch.contiguous_format)
    return {"exp_avg_sq": torch.zeros_like(point), "z": point, "x": point.clone()}


class ScheduleFreeAdamW(RuleOptimizer):
    """Schedule-free AdamW, made for a constant lr after a warm-up.

    Parameters are y. `eval()` exchanges them with x and `train()` exchanges them back, to the last bit. The authors'
    code does not keep x but extrapolates it from y and z: a third less state, and rounding at every exchange.

    Args:
        params: parameters or parameter groups.
        lr: learning rate; its warm-up comes from outside.
        betas: the average's share in the training point and the decay rate of the second moment, each in [0, 1).
        eps: stability term, outside the root and after bias correction.
        weight_decay: decay coefficient, taken at y and decoupled.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    rule = Rule(
        calculate_schedule_free_adamw_update,
        init_state,
        "flat",
        decays=False,
        move=move_schedule_free,
        advance=weigh_step,
        evaluated="x",
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float = 2.5e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "weight_decay_method": "decoupled",
            "training": True,
            "largest_lr": 0.0,
            "weight_sum": 0.0,
            "share": 1.0,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        group["betas"] = check_betas("betas", group["betas"], 2)
        group["eps"] = check_at_least("eps", group["eps"], 0)

    def eval(self) -> None:
        """Put the average into the parameters, for evaluations and for the model that is kept in the end."""
        self._set_training(False)

    def train(self) -> None:
        """Put the training point back into the parameters."""
        self._set_training(True)

    @torch.no_grad()
    def _set_training(self, training: bool) -> None:
        for group in self.param_groups:
            if group["training"] != training:
                group["training"] = training
                for param in group["params"]:
                    if self.state[param]:
                        self.rule.exchange(param, self.state[param])

    @staticmethod
    def first_update(grad: Tensor, group: ParamGroup) -> Tensor:
        """The first update in closed form, for the conformance check: all three points are the same then."""
        denominator: Tensor = grad.abs() + group["eps"]
        return grad / denominator
