"""A bucket that calls an update rule of ours once for all its trials and parameters.

Element-wise rules take the buffers as they are, with hyperparameters that broadcast; all others run under `vmap`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from bench.training.bucket import Bucket
from bench.training.probes import SecondMoment, find_second_moment


class Rule(Protocol):
    """What the harness asks of an update rule: see `optimizers.rule.Rule`."""

    layout: str
    shared_state: Sequence[str]
    init_state: Callable[[Tensor], Mapping[str, Tensor]]
    advance: Callable[[Mapping[str, Any]], Mapping[str, Any]]

    def exchange(self, param: Tensor, state: Mapping[str, Tensor]) -> None: ...
    def sharing_key(self, param: Tensor, position: int) -> tuple[tuple[int, ...], int]: ...
    def join(self, tensors: Sequence[Tensor]) -> Tensor: ...
    def cut(self, buffer: Tensor, shapes: Sequence[torch.Size], dim: int = 0) -> Sequence[Tensor]: ...


class RuleBucket(Bucket):
    """Parameters that share one call of one rule.

    Args:
        apply_rule: applies a rule to one trial's tensors.
        rule: the rule.
        groups: the parameter group of each trial, for its hyperparameters.
        shapes: each parameter's shape by name, without K.
        values: each trial's parameters, in the order of `shapes`, in the shape in which the rule sees them.
    """

    def __init__(
        self,
        apply_rule: Callable[..., None],
        rule: Rule,
        groups: Sequence[Mapping[str, Any]],
        shapes: Mapping[str, torch.Size],
        values: Sequence[Sequence[Tensor]],
    ) -> None:
        self.apply_rule, self.rule, self.shapes = apply_rule, rule, shapes
        self.num_steps = 0
        self.state_names = list(rule.init_state(values[0][0]))
        states = [[list(rule.init_state(param).values()) for param in own] for own in values]
        self.param = self._join(values)
        self.state = [
            self._join_state(name, [[s[i] for s in own] for own in states]) for i, name in enumerate(self.state_names)
        ]
        self.options, self.numbers = _stack_hyperparameters(groups, self.param.device)
        self.last_lr = self.numbers["lr"]
        self.advanced = list(rule.advance({**self.options, **self.numbers}))
        self.make_leaves()

    def _join(self, tensors: Sequence[Sequence[Tensor]]) -> Tensor:
        """One buffer [K, ...] of the rule's layout from K lists of tensors."""
        return torch.stack([self.rule.join(trial) for trial in tensors])

    def _join_state(self, name: str, tensors: Sequence[Sequence[Tensor]]) -> Tensor:
        return torch.stack([own[0] for own in tensors]) if name in self.rule.shared_state else self._join(tensors)

    def state_dict(self) -> Mapping[str, object]:
        return {"names": list(self.shapes), "num_steps": self.num_steps, "buffers": self._buffers()}

    def _buffers(self) -> list[Tensor]:
        """All tensors that a step changes."""
        return [self.param, *self.state, *(self.numbers[name] for name in self.advanced)]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.check_names(state)
        self.num_steps = state["num_steps"]
        torch._foreach_copy_(self._buffers(), state["buffers"])

    def pieces(self, buffer: Tensor) -> Sequence[Tensor]:
        """The part of each parameter, in the shape in which the rule sees it."""
        return self.rule.cut(buffer, list(self.shapes.values()), dim=1)

    def split(self, names: Collection[str]) -> Iterator["RuleBucket"]:
        """Two buckets where there are both: those without a gradient take no step."""
        for chosen in (True, False):
            positions = [index for index, name in enumerate(self.shapes) if (name in names) == chosen]
            if positions:
                yield self if len(positions) == len(self.shapes) else self._part(positions)

    def _part(self, positions: Sequence[int]) -> "RuleBucket":
        part = copy(self)
        names = list(self.shapes)
        part.shapes = {names[index]: self.shapes[names[index]] for index in positions}
        join = torch.cat if self.rule.layout in ("flat", "whole") else torch.stack

        def take(buffer: Tensor) -> Tensor:
            return join([self.pieces(buffer)[index] for index in positions], dim=1)

        named_state = zip(self.state_names, self.state, strict=True)
        part.param = take(self.param)
        part.state = [state.clone() if name in self.rule.shared_state else take(state) for name, state in named_state]
        by_entry = {name: take(value) for name, value in self.numbers.items() if _is_by_entry(value)}
        part.numbers = {**self.numbers, **by_entry}
        part.make_leaves()
        return part

    def join_gradients(self, grads: Mapping[str, Tensor | None]) -> None:
        """A new buffer of the gradients by name, each `[K, *shape]`; there may be those of others among them."""
        own = [grad for name in self.shapes if (grad := grads[name]) is not None]
        if self.rule.layout == "stack":
            self.grad = torch.stack([grad.reshape(len(grad), *self.param.shape[2:]) for grad in own], dim=1)
        else:
            self.grad = torch.cat([grad.reshape(len(grad), -1) for grad in own], dim=1).view(self.param.shape)

    def holding(self, tensors: Iterator[Tensor], numbers: Iterator[Tensor], num_steps: Tensor) -> "RuleBucket":
        """This bucket with its parameters and state, and its numbers, from what comes next in these."""
        other = copy(self)
        other.param, other.num_steps = next(tensors), num_steps.clone()  # type: ignore[assignment]
        other.state = [next(tensors) for _ in self.state]
        other.numbers = {
            name: tuple(next(numbers) for _ in own) if isinstance(own, tuple) else next(numbers)
            for name, own in self.numbers.items()
        }
        other.make_leaves()
        return other

    def step(self, lr_factor: float | Tensor) -> None:
        self.num_steps += 1

        def apply(param: Tensor, grad: Tensor, state: list[Tensor], numbers: Mapping[str, Any]) -> Tensor:
            self.apply_rule(self.rule, param, grad, state, {**self.options, **numbers}, self.num_steps)
            return param

        self.last_lr = self.numbers["lr"] * lr_factor
        self.numbers |= self.rule.advance({**self.options, **self.numbers, "lr": self.last_lr})
        numbers = {**self.numbers, "lr": self.last_lr}
        if self.rule.layout == "flat":  # a trial is a row; vmap would need more kernels for the same
            apply(self.param, self.grad, self.state, tree_map(lambda number: number[:, None], numbers))
        else:
            torch.vmap(apply)(self.param, self.grad, self.state, numbers)

    def set_mode(self, mode: str) -> None:
        self.rule.exchange(self.param, dict(zip(self.state_names, self.state, strict=True)))

    def keep(self, positions: Tensor) -> None:
        super().keep(positions)
        self.state = [state[positions] for state in self.state]
        self.numbers = {name: _select(value, positions) for name, value in self.numbers.items()}

    def param_lrs(self) -> Sequence[Tensor]:
        by_entry = _is_by_entry(self.last_lr)
        return [piece[:, 0] for piece in self.pieces(self.last_lr)] if by_entry else super().param_lrs()

    def seconds(self) -> list[SecondMoment | None]:
        second = dict(zip(self.state_names, self.state, strict=True)).get("exp_avg_sq")
        if second is None or second.shape != self.param.shape:
            return [None] * len(self.shapes)
        return [find_second_moment(view, self.numbers, self.num_steps) for view in self.views(second)]

    def state_bytes(self) -> int:
        return sum(state[0].numel() * state.element_size() for state in self.state)


def _stack_hyperparameters(
    groups: Sequence[Mapping[str, Any]], device: torch.device
) -> tuple[dict[str, object], dict[str, Any]]:
    """A group's options that all trials share, and its numbers as float64 tensors [K].

    float64 keeps bias corrections as exact as they are with Python's numbers.
    """
    options: dict[str, object] = {}
    numbers: dict[str, Any] = {}
    for name in groups[0].keys() - {"params"}:
        values = [group[name] for group in groups]
        if any(isinstance(value, Tensor) for value in values):  # one number per entry of the parameters
            tensors = [torch.as_tensor(value, dtype=torch.float64, device=device) for value in values]
            numbers[name] = torch.stack([tensor.expand_as(max(tensors, key=Tensor.numel)) for tensor in tensors])
        elif name == "weight_decay" and not any(values):
            options[name] = 0.0  # lets the rule skip the decay
        elif isinstance(values[0], float):
            numbers[name] = torch.tensor(values, dtype=torch.float64, device=device)
        elif isinstance(values[0], tuple) and all(isinstance(item, float) for item in values[0]):
            columns = zip(*values, strict=True)
            numbers[name] = tuple(torch.tensor(column, dtype=torch.float64, device=device) for column in columns)
        else:
            options[name] = values[0]
    return options, numbers


def _is_by_entry(number: Any) -> bool:
    """Whether this has one number per entry of the parameters, `[K, P]`, and not one per trial."""
    return isinstance(number, Tensor) and number.ndim == 2


def _select(value: Any, positions: Tensor) -> Any:
    return tuple(item[positions] for item in value) if isinstance(value, tuple) else value[positions]
