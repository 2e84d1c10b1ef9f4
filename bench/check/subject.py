"""What is checked: an optimizer's factory, and what checks need to drive it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from bench.config.optimizer import OptimizerConfig

Shape: TypeAlias = tuple[int, ...]
Params: TypeAlias = list[nn.Parameter]

MATRICES: tuple[Shape, ...] = ((6, 4), (3, 5), (6, 4))
OTHERS: tuple[Shape, ...] = ((7,), (), (4, 3, 2, 2))


class CheckFailed(Exception):
    """The optimizer did something wrong. The text is one line."""


class NotApplicable(Exception):
    """The check asks for something that this optimizer does not have. The text is one line."""


@dataclass(frozen=True)
class Subject:
    """The optimizer under check.

    Attributes:
        build: makes the optimizer from parameters or parameter groups.
        needs_closure: whether `step` takes a closure that reevaluates the model.
        config: what it is built from, for checks that build several trials.
        task_shapes: the shapes of a task's parameters by name, where the check is for a task.
    """

    build: Callable[[Any], torch.optim.Optimizer]
    needs_closure: bool = False
    config: OptimizerConfig | None = None
    task_shapes: Mapping[str, torch.Size] = field(default_factory=dict)

    @property
    def owner(self) -> type:
        """The optimizer's class."""
        return type(self.start(make_params(MATRICES)))

    def named_shapes(self) -> dict[str, torch.Size]:
        """The task's parameters that it can train, or those of the other checks."""
        own = dict(self.task_shapes) or {f"p{i}": torch.Size(s) for i, s in enumerate((*MATRICES, *OTHERS))}
        return {name: shape for name, shape in own.items() if self._trains(tuple(shape))}

    def start(self, groups: Any) -> torch.optim.Optimizer:
        """An optimizer ready to train. What it refuses to be built on is `NotApplicable`."""
        try:
            optimizer = self.build(groups)
        except (ValueError, TypeError) as error:
            raise NotApplicable(f"refuses: {error}") from error
        switch_mode(optimizer, "train")
        return optimizer

    def step(self, optimizer: torch.optim.Optimizer, params: Params, grads: Iterable[Tensor | None]) -> None:
        """One step along given gradients; for a closure they are those of a linear loss."""
        kept = list(grads)

        def closure() -> float:
            for param, grad in zip(params, kept, strict=True):
                param.grad = None if grad is None else grad.clone(memory_format=torch.preserve_format)
            with torch.no_grad():
                return float(sum((p * g).sum() for p, g in zip(params, kept, strict=True) if g is not None))

        if self.needs_closure:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()

    def train(self, optimizer: torch.optim.Optimizer, params: Params, steps: Iterable[int], scale: float = 1.0) -> None:
        for step in steps:
            self.step(optimizer, params, [grad * scale for grad in make_grads(params, step)])

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of parameters that it can train."""
        return (*MATRICES, *(shape for shape in OTHERS if self._trains(shape)))

    def _trains(self, shape: Shape) -> bool:
        params = make_params([shape])
        try:
            self.train(self.start(params), params, range(2))
        except Exception:  # `check_parameter_shapes` tells what it is
            return False
        return True


def make_params(shapes: Iterable[Shape], dtype: torch.dtype = torch.float32) -> Params:
    """Parameters of fixed random values."""
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def make_grads(params: Sequence[Tensor], step: int) -> list[Tensor]:
    """Gradients of fixed random values that depend on the step alone."""
    generator = torch.Generator().manual_seed(1000 + step)
    return [torch.randn(param.shape, generator=generator).to(param.dtype) for param in params]


def switch_mode(optimizer: torch.optim.Optimizer, mode: str) -> None:
    """Schedule-free optimizers keep other weights for training than for evaluation."""
    switch = getattr(optimizer, mode, None)
    if callable(switch):
        switch()


def values_of(params: Iterable[Tensor]) -> list[Tensor]:
    return [param.detach().clone() for param in params]


def require(condition: bool, text: str) -> None:
    if not condition:
        raise CheckFailed(text)


def largest_difference(params: Iterable[Tensor], others: Iterable[Tensor]) -> float:
    """The largest absolute difference of any element; nan if there is a nan."""
    differences = [(p.detach() - o.detach()).abs().max() for p, o in zip(params, others, strict=True)]
    return float(torch.stack(differences).max())


def require_equal(params: Iterable[Tensor], expected: Iterable[Tensor], text: str) -> None:
    worst = largest_difference(params, expected)
    require(worst == 0, f"{text}: off by {worst:.2g}")


def drop_decay(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        if "weight_decay" in group:
            group["weight_decay"] = 0.0


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        if "lr" not in group:
            raise NotApplicable("has no lr in its parameter groups")
        group["lr"] = lr
