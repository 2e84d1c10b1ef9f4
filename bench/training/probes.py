"""Where eps reshapes the update: measured at evaluations, per parameter label.

For every label, over all coordinates of its parameters:
    `diag/<label>/frac_below_eps`: share with sqrt(v_hat) < eps, for rules that keep `exp_avg_sq` and have an eps
    `diag/<label>/frac_below_10eps`: the same with 10 eps
    `diag/<label>/update_rms`: root mean square of the last step's change, per unit of lr
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Probe:
    """One parameter of K trials around their last step.

    Attributes:
        label: the parameter's label.
        change: its change in the last step, `[K, ...]`.
        lr: of the last step, `[K]`.
        exp_avg_sq: second moment before bias correction, `[K, ...]`, None where the rule keeps none.
        beta2: its decay rate, `[K]`.
        eps: `[K]`.
        num_steps: steps taken, for the bias correction.
    """

    label: str
    change: Tensor
    lr: Tensor
    exp_avg_sq: Tensor | None
    beta2: Tensor
    eps: Tensor
    num_steps: int


def diagnose(probes: Iterable[Probe]) -> dict[str, Tensor]:
    """The diagnostics of all labels, each `[K]`."""
    by_label: dict[str, list[Probe]] = defaultdict(list)
    for probe in probes:
        by_label[probe.label].append(probe)
    columns = {}
    for label, own in by_label.items():
        squares = [(probe.change.flatten(1).double() / probe.lr[:, None]).square() for probe in own]
        columns[f"diag/{label}/update_rms"] = torch.cat(squares, 1).mean(1).sqrt()
        if all(probe.exp_avg_sq is not None for probe in own):
            ratios = torch.cat([_root_over_eps(probe) for probe in own], 1)
            columns[f"diag/{label}/frac_below_eps"] = (ratios < 1).double().mean(1)
            columns[f"diag/{label}/frac_below_10eps"] = (ratios < 10).double().mean(1)
    return columns


def _root_over_eps(probe: Probe) -> Tensor:
    assert probe.exp_avg_sq is not None
    correction = (1 - probe.beta2**probe.num_steps)[:, None]
    return (probe.exp_avg_sq.flatten(1).double() / correction).sqrt() / probe.eps[:, None]
