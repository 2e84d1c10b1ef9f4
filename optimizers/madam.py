"""MAdam, the magnitude-aware Adam: no eps, a second moment stored at a scale where it does not underflow.

The role that eps plays in Adam, and this way round it, are discussed in the primer on epsilon of NVIDIA's
Emerging-Optimizers. Adam is Kingma and Ba 2015, arXiv 1412.6980.
"""

from torch import Tensor
from torch.optim.optimizer import ParamsT

from bench.errors import OptionError
from optimizers.rule import Betas, ParamGroup, Rule, bias_correction, check_betas, ema_, normalize, zeros_state
from optimizers.rule_optimizer import RuleOptimizer


def calculate_madam_update(
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq_scaled: Tensor,
    *,
    betas: Betas,
    correct_bias: bool,
    step: int | Tensor,
    scale_log2: int,
) -> Tensor:
    r"""MAdam's direction, with $s$ = 2^scale_log2.

    $$m = \beta_1 m + (1 - \beta_1) g, \quad v' = \beta_2 v' + (1 - \beta_2) (\sqrt s g)^2, \quad
      u = \sqrt s \hat m / \sqrt{v' / (1 - \beta_2^t)} \text{ where } m \ne 0, \text{ else } 0$$

    eps convention: none. Where $\sqrt s g$ is still so small that its square underflows, the update is inf or nan:
    scale_log2 is then too small for these gradients. As long as nothing under- or overflows, the update is that of
    Adam with eps = 0, bit for bit, at every scale_log2, and multiplying every gradient by a power of two leaves it
    bit-identical.

    Args:
        grad: gradient, any shape; left unchanged.
        exp_avg: first moment m, the shape of `grad`; changed in place.
        exp_avg_sq_scaled: scaled second moment v', the shape of `grad`; changed in place.
        betas: decay rates (beta1, beta2).
        correct_bias: divide the moments by 1 - beta^t.
        step: 1-based step count t.
        scale_log2: an even integer.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.

    Raises:
        ValueError: an odd scale_log2.
    """
    beta1, beta2 = betas
    root_scale = root_of_scale(scale_log2)
    ema_(exp_avg, grad, beta1)
    ema_(exp_avg_sq_scaled, (grad * root_scale).square(), beta2)
    correction1, correction2 = bias_correction(beta1, step, correct_bias), bias_correction(beta2, step, correct_bias)
    update = normalize(exp_avg * root_scale, exp_avg_sq_scaled, 0.0, correction1, correction2)
    # A gradient of zero now may follow others: only a parameter that nothing has ever moved stays where it is.
    return update.masked_fill_(exp_avg == 0, 0.0)


def root_of_scale(scale_log2: int) -> float:
    """The square root of 2^scale_log2, an exact power of two. Raises ValueError unless scale_log2 is even."""
    if isinstance(scale_log2, bool) or not isinstance(scale_log2, int) or scale_log2 % 2 or abs(scale_log2) > 252:
        raise OptionError("scale_log2", scale_log2, "expected an even integer in [-252, 252]")
    return float(2.0 ** (scale_log2 // 2))


class MAdam(RuleOptimizer):
    """Adam without eps: its update does not depend on the magnitude of the gradients.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay rates of the first and second moment, each in [0, 1).
        weight_decay: decay coefficient.
        scale_log2: log2 of the second moment's scale, even. 40 serves float32 gradients from about 1e-23 to 1e12.
        correct_bias: divide the moments by 1 - beta^t.
        weight_decay_method: `decoupled`, `independent`, `l2` or `palm`.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    rule = Rule(calculate_madam_update, zeros_state("exp_avg", "exp_avg_sq_scaled"), "flat")

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.01,
        *,
        scale_log2: int = 40,
        correct_bias: bool = True,
        weight_decay_method: str = "decoupled",
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "scale_log2": scale_log2,
            "correct_bias": correct_bias,
            "weight_decay_method": weight_decay_method,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        group["betas"] = check_betas("betas", group["betas"], 2)
        root_of_scale(group["scale_log2"])

    @staticmethod
    def first_update(grad: Tensor, group: ParamGroup) -> Tensor | None:
        """The first update in closed form, for the conformance check."""
        return grad.sign() if group["correct_bias"] else None
