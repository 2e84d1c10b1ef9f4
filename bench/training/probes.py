"""Where eps reshapes the update: measured at evaluations, per parameter label.

For every label, over all coordinates of its parameters:
    `diag/<label>/update_rms`: root mean square of the last step's change, per unit of lr; 0 where lr is 0
    `diag/<label>/frac_below_eps`: share with sqrt(v_hat) < eps, where all have an `exp_avg_sq`, betas and an eps
    `diag/<label>/frac_below_10eps`: the same with 10 eps

An optimizer may be anyone's: its state and its groups are read by PyTorch's names, and what is missing or has another
layout is left out.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class SecondMoment:
    """What an eps is compared with.

    Attributes:
        exp_avg_sq: before bias correction, `[K, ...]`.
        beta2: its decay rate, `[K]`.
        eps: `[K]`.
        num_steps: steps taken, for the bias correction.
    """

    exp_avg_sq: Tensor
    beta2: Tensor
    eps: Tensor
    num_steps: int


@dataclass(frozen=True)
class Probe:
    """One parameter of K trials around their last step.

    Attributes:
        label: the parameter's label.
        change: its change in the last step, `[K, ...]`.
        lr: of the last step, `[K]`.
        second: its second moment, None where the optimizer keeps none by that name.
    """

    label: str
    change: Tensor
    lr: Tensor
    second: SecondMoment | None


def find_second_moment(exp_avg_sq: Any, hyperparameters: Mapping[str, Any], num_steps: Any) -> SecondMoment | None:
    """A second moment with the betas and the eps that belong to it.

    Args:
        exp_avg_sq: what stands under that name in the state, `[K, ...]`.
        hyperparameters: a parameter group; numbers are floats, or tensors `[K]`.
        num_steps: steps taken, a number or a tensor of one.

    Returns:
        None where one of them is missing or of another kind.
    """
    steps = num_steps.item() if isinstance(num_steps, Tensor) and num_steps.numel() == 1 else num_steps
    if not isinstance(exp_avg_sq, Tensor) or not exp_avg_sq.is_floating_point():
        return None
    if isinstance(steps, bool) or not isinstance(steps, int | float) or not 1 <= steps < math.inf:
        return None
    for prefix in ("adam_", ""):  # Muon's kind names those of the Adam that it has built in so
        betas, eps = hyperparameters.get(f"{prefix}betas"), hyperparameters.get(f"{prefix}eps")
        beta2 = betas[1] if isinstance(betas, tuple | list) and len(betas) > 1 else None
        numbers = [_per_trial(number, exp_avg_sq) for number in (beta2, eps)]
        if numbers[0] is not None and numbers[1] is not None:
            return SecondMoment(exp_avg_sq, numbers[0], numbers[1], int(steps))
    return None


def _per_trial(number: Any, exp_avg_sq: Tensor) -> Tensor | None:
    """A finite number, or a tensor of one for all or for each trial, as `[K]`; None for anything else."""
    is_number = isinstance(number, float) and math.isfinite(number)
    if not is_number and not (isinstance(number, Tensor) and number.numel() in (1, len(exp_avg_sq))):
        return None
    return torch.as_tensor(number, dtype=torch.float64, device=exp_avg_sq.device).flatten().expand(len(exp_avg_sq))


def diagnose(probes: Iterable[Probe]) -> dict[str, Tensor]:
    """The diagnostics of all labels, each `[K]`."""
    by_label: dict[str, list[Probe]] = defaultdict(list)
    for probe in probes:
        by_label[probe.label].append(probe)
    columns = {}
    for label, own in by_label.items():
        squares = [_per_unit_of_lr(probe.change.flatten(1).double(), probe.lr[:, None]).square() for probe in own]
        columns[f"diag/{label}/update_rms"] = torch.cat(squares, 1).mean(1).sqrt()
        seconds = [probe.second for probe in own if probe.second is not None]
        if len(seconds) == len(own):
            ratios = torch.cat([_root_over_eps(second) for second in seconds], 1)
            columns[f"diag/{label}/frac_below_eps"] = (ratios < 1).double().mean(1)
            columns[f"diag/{label}/frac_below_10eps"] = (ratios < 10).double().mean(1)
    return columns


def _per_unit_of_lr(change: Tensor, lr: Tensor) -> Tensor:
    return torch.where(lr == 0, 0.0, change / lr)


def _root_over_eps(second: SecondMoment) -> Tensor:
    correction = (1 - second.beta2**second.num_steps)[:, None]
    return (second.exp_avg_sq.flatten(1).double() / correction).sqrt() / second.eps[:, None]
