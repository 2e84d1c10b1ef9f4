"""The optimizers of K trials as one: the very same update rules on buffers with a leading axis K.

Element-wise rules take the buffers as they are, with hyperparameters that broadcast; all others run under `vmap`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from itertools import groupby, zip_longest
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from bench.training.probes import Probe, find_second_moment
from bench.training.routing import RoutedOptimizer

Params = Mapping[str, nn.Parameter]


class Rule(Protocol):
    """What the harness asks of an update rule: see `optimizers.rule.Rule`."""

    layout: str
    shared_state: Sequence[str]
    init_state: Callable[[Tensor], Mapping[str, Tensor]]


class EnsembleOptimizer:
    """Parameters, gradients and optimizer state of K trials, and the step that updates them.

    Args:
        optimizers: one per trial, of one structure; they tell rules, groups and hyperparameters.
        params: each trial's parameters by name, with their initial values.

    Attributes:
        params: the stacked parameters by name, leaves of autograd, each `[K, *shape]`.
    """

    def __init__(self, optimizers: Sequence[RoutedOptimizer], params: Sequence[Params]) -> None:
        self.num_steps = 0
        self.buckets = list(_lay_out(optimizers, params))
        self._unused: frozenset[str] = frozenset()

    @property
    def params(self) -> dict[str, Tensor]:
        return {name: leaf for bucket in self.buckets for name, leaf in bucket.leaves.items()}

    def backward(self, loss: Tensor) -> None:
        """Fill the gradients of all trials from a scalar that is a sum over them.

        Parameters on which it does not depend get none, and no step: they are set apart in buckets of their own.
        """
        params = self.params
        grads = dict(zip(params, torch.autograd.grad(loss, list(params.values()), allow_unused=True), strict=True))
        unused = frozenset(name for name, grad in grads.items() if grad is None)
        if unused != self._unused:
            self.buckets, self._unused = self._set_apart(unused), unused
        used = {name: view for bucket in self._used for name, view in bucket.grad_views.items()}
        torch._foreach_copy_(list(used.values()), [grads[name] for name in used])

    def _set_apart(self, names: Collection[str]) -> list["_Bucket"]:
        return [part for bucket in self.buckets for part in bucket.split(names)]

    @property
    def _used(self) -> list["_Bucket"]:
        return [bucket for bucket in self.buckets if self._unused.isdisjoint(bucket.shapes)]

    def clip(self, max_norm: float, loss_scale: float) -> None:
        """Scale every trial's gradients so that the joint norm of the unscaled ones is at most `max_norm`."""
        grads = [bucket.grad.flatten(1) for bucket in self._used]
        unscaled = grads if loss_scale == 1.0 else [grad / loss_scale for grad in grads]
        norms = torch.stack([torch.linalg.vector_norm(grad, dim=1) for grad in unscaled])
        factor = (max_norm / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
        for grad in grads:
            grad.mul_(factor[:, None])

    @torch.no_grad()
    def step(self, lr_factor: float) -> None:
        self.num_steps += 1
        for bucket in self._used:
            bucket.step(lr_factor)

    def keep(self, positions: Tensor) -> None:
        """Go on with the trials at `positions`, an int64 tensor."""
        for bucket in self.buckets:
            bucket.keep(positions)

    def probes(self, labels: Mapping[str, str], before: Mapping[str, Tensor]) -> Iterator[Probe]:
        """Every parameter around the last step, from `before` to now."""
        for bucket in self.buckets:
            second = dict(zip(bucket.state_names, bucket.state, strict=True)).get("exp_avg_sq")
            seconds = bucket.views(second) if second is not None and second.shape == bucket.param.shape else []
            for (name, leaf), own in zip_longest(bucket.leaves.items(), seconds):
                yield Probe(
                    label=labels[name],
                    change=leaf.detach() - before[name],
                    lr=bucket.last_lr,
                    second=find_second_moment(own, bucket.numbers, bucket.num_steps),
                )

    def state(self) -> dict[str, Any]:
        """Parameters and optimizer state of all trials."""
        return {"num_steps": self.num_steps, "buckets": [bucket.state_dict() for bucket in self.buckets]}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        self.num_steps = state["num_steps"]
        for saved in state["buckets"]:
            self.buckets = self._set_apart(saved["names"])
        for bucket, saved in zip(self.buckets, state["buckets"], strict=True):
            bucket.load_state_dict(saved)

    def state_bytes(self) -> int:
        """Bytes of state per trial."""
        states = (state for bucket in self.buckets for state in bucket.state)
        return sum(state[0].numel() * state.element_size() for state in states)


class _Bucket:
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
        self._make_leaves()

    def _join(self, tensors: Sequence[Sequence[Tensor]]) -> Tensor:
        """One buffer [K, ...] of the rule's layout from K lists of tensors."""
        if self.rule.layout in ("flat", "whole"):
            return torch.stack([torch.cat([tensor.reshape(-1) for tensor in own]) for own in tensors])
        if self.rule.layout == "stack":
            return torch.stack([torch.stack(list(own)) for own in tensors])
        return torch.stack([own[0] for own in tensors])

    def _join_state(self, name: str, tensors: Sequence[Sequence[Tensor]]) -> Tensor:
        return torch.stack([own[0] for own in tensors]) if name in self.rule.shared_state else self._join(tensors)

    def _make_leaves(self) -> None:
        """Views of the buffers in the model's shapes."""
        self.grad = torch.empty_like(self.param)
        self.grad_views = dict(zip(self.shapes, self.views(self.grad), strict=True))
        views = zip(self.shapes, self.views(self.param), strict=True)
        self.leaves = {name: view.detach().requires_grad_() for name, view in views}

    def state_dict(self) -> dict[str, Any]:
        """All that changes from step to step, and the names of the parameters."""
        return {"names": list(self.shapes), "num_steps": self.num_steps, "buffers": [self.param, *self.state]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if list(self.shapes) != state["names"]:
            raise ValueError(f"expected {', '.join(self.shapes)}; it has {', '.join(state['names'])}")
        self.num_steps = state["num_steps"]
        torch._foreach_copy_([self.param, *self.state], state["buffers"])

    def views(self, buffer: Tensor) -> list[Tensor]:
        shapes = zip(self._pieces(buffer), self.shapes.values(), strict=True)
        return [piece.view(len(buffer), *shape) for piece, shape in shapes]

    def _pieces(self, buffer: Tensor) -> Sequence[Tensor]:
        """The part of each parameter, in the shape in which the rule sees it."""
        if self.rule.layout in ("flat", "whole"):
            return torch.split(buffer, [shape.numel() for shape in self.shapes.values()], dim=1)
        return buffer.unbind(dim=1) if self.rule.layout == "stack" else [buffer]

    def split(self, names: Collection[str]) -> Iterator["_Bucket"]:
        """This bucket as it goes on: with the parameters that are among `names`, and with the others, apart."""
        for chosen in (True, False):
            positions = [index for index, name in enumerate(self.shapes) if (name in names) == chosen]
            if positions:
                yield self if len(positions) == len(self.shapes) else self._part(positions)

    def _part(self, positions: Sequence[int]) -> "_Bucket":
        part = copy(self)
        names = list(self.shapes)
        part.shapes = {names[index]: self.shapes[names[index]] for index in positions}
        join = torch.cat if self.rule.layout in ("flat", "whole") else torch.stack

        def take(buffer: Tensor) -> Tensor:
            return join([self._pieces(buffer)[index] for index in positions], dim=1)

        named_state = zip(self.state_names, self.state, strict=True)
        part.param = take(self.param)
        part.state = [state.clone() if name in self.rule.shared_state else take(state) for name, state in named_state]
        by_entry = {name: take(value) for name, value in self.numbers.items() if _is_by_entry(value)}
        part.numbers = {**self.numbers, **by_entry}
        part._make_leaves()
        return part

    def step(self, lr_factor: float) -> None:
        self.num_steps += 1

        def apply(param: Tensor, grad: Tensor, state: list[Tensor], numbers: Mapping[str, Any]) -> Tensor:
            self.apply_rule(self.rule, param, grad, state, {**self.options, **numbers}, self.num_steps)
            return param

        self.last_lr = self.numbers["lr"] * lr_factor
        numbers = {**self.numbers, "lr": self.last_lr}
        if self.rule.layout == "flat":  # a trial is a row; vmap would need more kernels for the same
            apply(self.param, self.grad, self.state, tree_map(lambda number: number[:, None], numbers))
        else:
            torch.vmap(apply)(self.param, self.grad, self.state, numbers)

    def keep(self, positions: Tensor) -> None:
        self.param = self.param[positions]
        self.state = [state[positions] for state in self.state]
        self.numbers = {name: _select(value, positions) for name, value in self.numbers.items()}
        self.last_lr = self.last_lr[positions]
        self._make_leaves()


def _lay_out(optimizers: Sequence[RoutedOptimizer], params: Sequence[Params]) -> Iterator[_Bucket]:
    """Buckets of parameters with the same optimizer, group and rule, and for stacks the same shape."""
    for position, route in enumerate(optimizers[0].routes):
        optimizer: Any = route.optimizer
        twins: list[Any] = [other.routes[position].optimizer for other in optimizers]
        for groups in zip(*(twin.rule_groups() for twin in twins), strict=True):
            group = groups[0]
            rules: list[Rule] = []

            def sort_key(index: int, group: Any = group, optimizer: Any = optimizer, rules: Any = rules) -> Any:
                rule = optimizer.rule_for(group["params"][index], group)
                if rule not in rules:
                    rules.append(rule)
                shape = tuple(group["params"][index].shape) if rule.layout == "stack" else ()
                return rules.index(rule), shape, index if rule.layout == "single" else 0

            for key, members in groupby(sorted(range(len(group["params"])), key=sort_key), key=sort_key):
                indices = list(members)
                names = [route.names[id(group["params"][index])] for index in indices]
                shapes = {name: params[0][name].shape for name in names}
                values = [[own["params"][index].detach() for index in indices] for own in groups]
                yield _Bucket(optimizer.apply_rule, rules[key[0]], groups, shapes, values)


def _stack_hyperparameters(
    groups: Sequence[Mapping[str, Any]], device: torch.device
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A group's options that all trials share, and its numbers as float64 tensors [K].

    float64 keeps bias corrections as exact as they are with Python's numbers.
    """
    options: dict[str, Any] = {}
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
