"""Averages of the weights, kept beside a training that they never touch, and evaluated beside its weights.

Exponential moving averages: Polyak and Juditsky 1992; as an arm of a comparison, Ajroldi et al. 2025, arXiv 2502.06761.
Means of the latest snapshots: Kaddour 2022, arXiv 2209.14981 (LAWA).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from bench.config.schema import AverageConfig
from bench.training.clock import StepClock
from bench.training.learner import Learner, Tensors


class Averages(Protocol):
    """Averages of tensors by name.

    Attributes:
        num_copies: how many copies of all tensors are kept in the end.
    """

    num_copies: int

    def update(self, weights: Tensors) -> None:
        """Take in the weights after one more step."""

    def items(self) -> Iterator[tuple[str, Tensors]]:
        """Every average with its label; nothing before there is one."""

    def keep(self, index: Tensor) -> None:
        """Go on with these positions of the leading axis."""

    def state(self) -> Mapping[str, object]:
        """All that `restore` needs, as tensors and plain values."""

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take over what `state` returned, on this device."""


class MovingAverages:
    """Exponential moving averages, bias-corrected: after t steps, step i weighs in proportion to decay^(t - i).

    The initial weights have no part in it. A decay of 0 gives the weights themselves.
    """

    def __init__(self, decays: Sequence[float]) -> None:
        self.decays, self.num_updates, self.num_copies = decays, 0, len(decays)
        self.averages: list[dict[str, Tensor]] = [{} for _ in decays]

    def update(self, weights: Tensors) -> None:
        self.num_updates += 1
        for decay, average in zip(self.decays, self.averages, strict=True):
            if not average:
                average.update({name: tensor.clone() for name, tensor in weights.items()})
            share = (1 - decay) / (1 - decay**self.num_updates)
            torch._foreach_lerp_(list(average.values()), [weights[name] for name in average], share)

    def items(self) -> Iterator[tuple[str, Tensors]]:
        if self.num_updates:
            yield from zip(_label("ema", self.decays), self.averages, strict=True)

    def keep(self, index: Tensor) -> None:
        self.averages = [_select(average, index) for average in self.averages]

    def state(self) -> Mapping[str, object]:
        return {"num_updates": self.num_updates, "averages": self.averages}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.num_updates, self.averages = state["num_updates"], [_copy(one, device) for one in state["averages"]]


class LatestSnapshots:
    """Means over the latest `window` snapshots, one every `every` steps; over those there are while they are fewer."""

    def __init__(self, windows: Sequence[int], every: int) -> None:
        self.windows, self.every, self.num_updates = windows, every, 0
        self.num_copies = max(windows)
        self.snapshots: list[dict[str, Tensor]] = []

    def update(self, weights: Tensors) -> None:
        self.num_updates += 1
        if self.num_updates % self.every == 0:
            snapshot = {name: tensor.clone() for name, tensor in weights.items()}
            self.snapshots = [*self.snapshots, snapshot][-max(self.windows) :]

    def items(self) -> Iterator[tuple[str, Tensors]]:
        for label, window in zip(_label("lawa", self.windows), self.windows, strict=True):
            latest = self.snapshots[-window:]
            if latest:
                yield label, {name: torch.stack([one[name] for one in latest]).mean(0) for name in latest[0]}

    def keep(self, index: Tensor) -> None:
        self.snapshots = [_select(snapshot, index) for snapshot in self.snapshots]

    def state(self) -> Mapping[str, object]:
        return {"num_updates": self.num_updates, "snapshots": self.snapshots}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.num_updates, self.snapshots = state["num_updates"], [_copy(one, device) for one in state["snapshots"]]


class AveragingLearner:
    """A learner whose every evaluation also tells the metrics of averaged weights, `<label>_<metric>`.

    Buffers, such as BatchNorm's running statistics, are those of the training. Averaging is a part of the optimizer's
    time, and its bytes are a part of the optimizer's state.
    """

    def __init__(self, learner: Learner, config: AverageConfig, num_trials: int) -> None:
        self.learner, self.num_parameters, self.num_trials = learner, learner.num_parameters, num_trials
        self.averages: Averages = MovingAverages(config.decays)
        if config.name == "lawa":
            self.averages = LatestSnapshots(config.windows, config.every)
        self.labels = labels_of(config)

    @property
    def weights(self) -> Tensors:
        return self.learner.weights

    @property
    def grad_norm(self) -> Tensor | None:
        return self.learner.grad_norm

    @property
    def _device(self) -> torch.device:
        return next(iter(self.weights.values())).device

    @torch.no_grad()
    def step(self, lr_factor: float, clock: StepClock) -> Tensor:
        with torch.enable_grad():
            losses = self.learner.step(lr_factor, clock)
        self.averages.update(self.learner.weights)
        clock.lap("optimizer")
        return losses

    @torch.no_grad()
    def evaluate(self, split: str, *, full: bool, weights: Tensors | None = None) -> Mapping[str, Tensor]:
        raw = self.learner.evaluate(split, full=full, weights=weights)
        averaged = {label: self.learner.evaluate(split, full=full, weights=own) for label, own in self.averages.items()}
        named = {f"{label}_{name}": value for label in self.labels for name, value in averaged.get(label, raw).items()}
        return {**raw, **named}

    def diagnose(self) -> Mapping[str, Tensor]:
        return self.learner.diagnose()

    def final_weights(self) -> Tensors:
        return self.learner.final_weights()

    def keep(self, positions: Sequence[int]) -> None:
        self.learner.keep(positions)
        if self.num_trials > 1:
            self.averages.keep(torch.tensor(positions, device=self._device))
            self.num_trials = len(positions)

    def state_bytes(self) -> int:
        """Bytes of optimizer state and of averages per trial."""
        weights = sum(tensor.numel() * tensor.element_size() for tensor in self.weights.values())
        return self.learner.state_bytes() + self.averages.num_copies * weights // self.num_trials

    def state(self) -> Mapping[str, object]:
        return {"learner": self.learner.state(), "averages": self.averages.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.learner.restore(state["learner"])
        self.averages.restore(state["averages"], self._device)


def labels_of(config: AverageConfig) -> list[str]:
    """What the names of every average's metrics begin with."""
    return _label(config.name, config.windows if config.name == "lawa" else config.decays)


def _label(name: str, settings: Sequence[float]) -> list[str]:
    """`ema` for a single setting, `ema_0.99` and so on for several."""
    return [name] if len(settings) == 1 else [f"{name}_{setting:g}" for setting in settings]


def _copy(tensors: Tensors, device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}


def _select(tensors: Tensors, index: Tensor) -> dict[str, Tensor]:
    return {name: tensor[index] for name, tensor in tensors.items()}
