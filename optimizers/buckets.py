"""Parameters that one call of a rule updates: small ones joined in one buffer, large ones cut into pieces.

A rule then costs a handful of kernels whatever the model, and every kernel of a piece of about `PIECE_SIZE` elements
finds its data in the cache. The optimizer's `state[param]` stays the truth: joined buffers are only its storage.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from optimizers.rule import ParamGroup, Rule

ParamState: TypeAlias = dict[str, Any]  # of one parameter, as in `torch.optim`: its step count, and tensors by name
Member: TypeAlias = tuple[Tensor, ParamState]
PIECE_SIZE = 2**18  # 1 MiB in float32: of 2^13 to 2^22 the fastest, for one thread as for two
ACCELERATOR_PIECE_SIZE = 2**24  # there a kernel's launch costs more than a miss of the cache


def lay_out(
    params: Sequence[Tensor], rules: Sequence[Rule], states: Sequence[ParamState], apply: Callable[..., None]
) -> Iterator["Bucket"]:
    """Group parameters that one call may update: same rule, step count, dtype, device and (for stacks) shape.

    Args:
        params: the parameters.
        rules: the rule of each.
        states: what the optimizer keeps for each, empty before its first step.
        apply: applies a rule, as `apply_rule` does.

    Raises:
        ValueError: a sharded parameter whose rule takes the whole model.
    """
    calls: dict[tuple[Any, ...], list[Member]] = {}
    for position, (param, rule, state) in enumerate(zip(params, rules, states, strict=True)):
        shape, alone = rule.sharing_key(param, position)
        step = 0
        if rule.layout != "whole":
            step = state.get("step", 0)
            large = param.numel() >= _piece_size(param) or not param.is_contiguous() or _is_sharded(param)
            alone = position + 1 if large else alone
        key = (rules.index(rule), step, str(param.dtype), str(param.device), shape, alone)
        calls.setdefault(key, []).append((param, state))
    for key in sorted(calls):
        rule, joined = rules[key[0]], calls[key]
        for piece in [joined] if rule.layout == "whole" else _cut_into_pieces(joined):
            yield Bucket(rule, [param for param, _ in piece], [state for _, state in piece], apply)


def _piece_size(tensor: Tensor) -> int:
    return PIECE_SIZE if tensor.device.type == "cpu" else ACCELERATOR_PIECE_SIZE


def _cut_into_pieces(members: Sequence[Member]) -> Iterator[list[Member]]:
    piece: list[Member] = []
    for param, state in members:
        if piece and sum(own.numel() for own, _ in piece) + param.numel() > _piece_size(param):
            yield piece
            piece = []
        piece.append((param, state))
    yield piece


class Bucket:
    """Parameters that one call of a rule updates, with the buffers in which they are joined.

    Args:
        rule: the rule.
        params: the parameters.
        states: what the optimizer keeps for each: its step count, and tensors by name.
        apply: applies the rule, as `apply_rule` does.
    """

    def __init__(self, rule: Rule, params: list[Tensor], states: list[ParamState], apply: Callable[..., None]) -> None:
        self.rule, self.params, self.states, self.apply = rule, params, states, apply
        for param, state in zip(params, states, strict=True):
            if not state:
                state.update({"step": 0, **rule.init_state(param)})
        self.names = [name for name in states[0] if name != "step"]
        self._share()
        self.joined = len(params) > 1
        if self.joined:
            self._join()

    def _share(self) -> None:
        """Of a whole model's state, the count and the numbers that it has once are those of its oldest parameter."""
        if self.rule.layout == "whole":
            if any(_is_sharded(param) for param in self.params):
                raise ValueError("sharded parameters: this rule needs the whole model in one place")
            oldest = max(self.states, key=lambda state: int(state["step"]))
            for state in self.states:
                state.update({name: oldest[name] for name in ("step", *self.rule.shared_state)})

    def _join(self) -> None:
        self.param, self.param_views = _join(self.rule, self.params)
        self.grad, self.grad_views = _join(self.rule, self.params)
        self.state = []
        for name in self.names:
            if name in self.rule.shared_state:
                self.state.append(self.states[0][name])
                continue
            buffer, views = _join(self.rule, [state[name] for state in self.states])
            for state, view in zip(self.states, views, strict=True):
                state[name] = view
            self.state.append(buffer)

    @property
    def kind(self) -> tuple[Any, ...]:
        """The rule, the step count, and what else is equal for those whose next step differs in nothing but tensors."""
        tensors = [self.params[0], *(self.states[0][name] for name in self.names)]
        return self.rule, self.states[0]["step"], tensors[0].device, *(tensor.dtype for tensor in tensors)

    def step(self, group: ParamGroup) -> None:
        for param, grad, *state in self._cut(self.gather()):
            self.apply(self.rule, param, grad, state, group, self.states[0]["step"])
        self.scatter()

    def gather(self) -> list[Tensor]:
        """Begin a step. Returns what it is of: the parameters, their gradients and their states."""
        for state in self.states:
            state["step"] += 1
        if self.joined:
            torch._foreach_copy_(self.grad_views, [_grad(param) for param in self.params])
            torch._foreach_copy_(self.param_views, self.params)
            return [self.param, self.grad, *self.state]
        (param,), (state,) = self.params, self.states
        tensors = [param, _grad(param), *(state[name] for name in self.names)]
        return [_local(tensor) for tensor in tensors] if self.rule.layout == "flat" else tensors

    def scatter(self) -> None:
        """End a step."""
        if self.joined:
            torch._foreach_copy_(self.params, self.param_views)

    def _cut(self, tensors: list[Tensor]) -> Iterator[Sequence[Tensor]]:
        """Pieces for which an element-wise rule finds its data in the cache; for other rules, everything."""
        if self.rule.layout != "flat" or not all(tensor.is_contiguous() for tensor in tensors):
            return iter([tensors])
        return zip(*(torch.split(tensor.view(-1), _piece_size(tensor)) for tensor in tensors), strict=True)


def _is_sharded(tensor: Tensor) -> bool:
    """Whether this is a `DTensor`, as of FSDP2; told by its method, since the import takes a second."""
    return hasattr(tensor, "to_local")


def _local(tensor: Tensor) -> Tensor:
    """This process's shard of a `DTensor`: all that an element-wise rule needs."""
    return tensor.to_local() if _is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def _grad(param: Tensor) -> Tensor:
    assert param.grad is not None
    if param.grad.is_sparse:
        raise RuntimeError(f"sparse gradients (parameter of shape {tuple(param.shape)}) are not supported")
    return param.grad


def _join(rule: Rule, tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """A copy of `tensors` in one buffer of the rule's layout, and views of it in their shapes."""
    buffer, shapes = rule.join(tensors), [tensor.shape for tensor in tensors]
    return buffer, [piece.view(shape) for piece, shape in zip(rule.cut(buffer, shapes), shapes, strict=True)]
