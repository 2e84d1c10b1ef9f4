"""Lion, the sign of an interpolated momentum. Chen et al. 2023, arXiv 2302.06675, algorithm 2."""

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers.rule import Betas, ParamGroup, Rule, check_betas, ema_, lerp, zeros_state
from optimizers.rule_optimizer import RuleOptimizer


def calculate_lion_update(grad: Tensor, exp_avg: Tensor, *, betas: Betas) -> Tensor:
    r"""Lion's direction: every entry is -1, 0 or 1.

    $$u = \mathrm{sign}(\beta_1 m + (1 - \beta_1) g), \quad m = \beta_2 m + (1 - \beta_2) g$$

    eps convention: none.

    Args:
        grad: gradient, any shape; left unchanged.
        exp_avg: momentum m, the shape of `grad`; changed in place.
        betas: (beta1, beta2), the share of the momentum in the update and its decay rate.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    beta1, beta2 = betas
    update = lerp(exp_avg, grad, 1 - beta1).sign_()
    ema_(exp_avg, grad, beta2)
    return update


class Lion(RuleOptimizer):
    """Lion. Its lr wants to be some 3 to 10 times smaller than Adam's and its weight decay as much larger (section 5).

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: the momentum's share in the update and its decay rate, each in [0, 1).
        weight_decay: decay coefficient.
        weight_decay_method: `decoupled`, `independent`, `l2` or `palm`.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    rule = Rule(calculate_lion_update, zeros_state("exp_avg"), "flat")

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.01,
        *,
        weight_decay_method: str = "decoupled",
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "weight_decay_method": weight_decay_method}
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        group["betas"] = check_betas("betas", group["betas"], 2)

    @staticmethod
    def first_update(grad: Tensor, group: ParamGroup) -> Tensor:
        """The first update in closed form, for the conformance check."""
        return grad.sign()
