"""The `torch.optim.Optimizer` around a rule: the only step loop of this folder.

Small tensors are joined and large ones are cut into pieces of about `PIECE_SIZE` elements, so that a rule costs a
handful of kernels whatever the model, and every kernel of a piece finds its data in the cache. `state[param]` stays the
truth: joined buffers are only its storage, and are laid out anew whenever the set of parameters with gradients changes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from inspect import unwrap
from itertools import chain
from typing import Any, Self, TypeAlias, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT, StateDict

from optimizers.modifiers import check_modifiers, modify
from optimizers.rule import (
    WEIGHT_DECAY_METHODS,
    ParamGroup,
    Rule,
    apply_rule,
    check_at_least,
    check_choice,
    merge_groups,
)

ParamState: TypeAlias = dict[str, Any]  # of one parameter, as in `torch.optim`: its step count, and tensors by name
PIECE_SIZE = 2**18  # 1 MiB in float32: of 2^13 to 2^22 the fastest, for one thread as for two
TORCH_SWITCHES = {  # in the groups of torch's own optimizers, and of no meaning here
    "amsgrad",
    "capturable",
    "decoupled_weight_decay",
    "differentiable",
    "foreach",
    "fused",
    "maximize",
}
ACCELERATOR_PIECE_SIZE = 2**24  # there a kernel's launch costs more than a miss of the cache


class RuleOptimizer(torch.optim.Optimizer):
    """Base of every optimizer here. A subclass names its `rule` and checks its hyperparameters in `check_group`.

    Args:
        params: parameters or parameter groups, as for any `torch.optim` class.
        defaults: hyperparameters; `lr`, `weight_decay` and `weight_decay_method` among them.

    Raises:
        ValueError: what `check_group` and `check_param` refuse.
    """

    rule: Rule
    modifiers: tuple[str, ...] = ()
    apply_rule: Callable[..., None] = staticmethod(apply_rule)  # for harnesses that train many models at once
    apply_together: Callable[..., None] | None = None  # a rule to several parameters at once, where it is compiled

    def __init__(self, params: ParamsT, defaults: ParamGroup) -> None:
        self._buckets: dict[int, tuple[tuple[int, ...], list[_Bucket]]] = {}
        super().__init__(params, defaults)

    def __setstate__(self, state: StateDict) -> None:
        super().__setstate__(state)
        self._buckets = {}  # the state tensors are new ones

    def load_state_dict(self, state_dict: StateDict) -> None:
        """As in `torch.optim`, but every state keeps its dtype: torch's own would round it to its parameter's.

        What a group of `state_dict` lacks, such as one of torch's own Adam, stays as it is here.

        Raises:
            ValueError: the state is that of a rule which this one does not have.
        """
        own = ({name: value for name, value in group.items() if name != "params"} for group in self.param_groups)
        groups = state_dict["param_groups"]
        if len(groups) == len(self.param_groups):  # else torch's own error tells
            groups = [self._complete(dict(saved), present) for saved, present in zip(groups, own, strict=True)]
        super().load_state_dict({**state_dict, "param_groups": groups})
        indices = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        params = chain.from_iterable(group["params"] for group in self.param_groups)
        for index, param in zip(indices, params, strict=True):
            for name, value in state_dict["state"].get(index, {}).items():
                if name == "step":
                    self.state[param][name] = int(value)
                elif isinstance(value, Tensor):
                    self.state[param][name] = value.to(param.device, copy=True)

    def _complete(self, saved: ParamGroup, present: ParamGroup) -> ParamGroup:
        """A saved group with what it lacks from the present one, without the switches of torch's own optimizers."""
        for name in ("amsgrad", "maximize"):
            if saved.get(name):
                raise ValueError(f"{name}=True in a saved state: {type(self).__name__} has no such form")
        if "decoupled_weight_decay" in saved:
            saved["weight_decay_method"] = "decoupled" if saved["decoupled_weight_decay"] else "l2"
        return {**present, **{name: value for name, value in saved.items() if name not in TORCH_SWITCHES}}

    def add_param_group(self, param_group: ParamGroup) -> None:
        add_param_group = unwrap(torch.optim.Optimizer.add_param_group)  # the wrapper would import torch._dynamo
        add_param_group(self, param_group)
        group = self.param_groups[-1]
        self.check_group(group)
        for param in group["params"]:
            self.check_param(param, group)

    def check_group(self, group: ParamGroup) -> None:
        """Raises ValueError for a hyperparameter out of its range; stores numbers as floats, a tensor lr as it is."""
        lr = group["lr"]
        if isinstance(lr, Tensor) and lr.numel() == 1:
            check_at_least("lr", float(lr), 0)
            group["lr"] = lr.view(())  # the same memory, for schedulers that fill it
        else:
            group["lr"] = check_at_least("lr", lr, 0)
        group["weight_decay"] = check_at_least("weight_decay", group["weight_decay"], 0)
        check_choice("weight_decay_method", group["weight_decay_method"], WEIGHT_DECAY_METHODS)

    def check_param(self, param: Tensor, group: ParamGroup) -> None:
        """Raises ValueError if the rule cannot take this parameter. Every real tensor is welcome by default."""
        if param.is_complex():
            raise ValueError(f"a complex parameter of shape {tuple(param.shape)}: only real ones are supported")

    def rule_for(self, param: Tensor, group: ParamGroup) -> Rule:
        """The rule of one parameter: by default the class's own."""
        return self.rule

    @classmethod
    def with_modifiers(cls, names: Iterable[str]) -> type[Self]:
        """This class with modifiers around its rules, see `optimizers.modifiers`, which raises ValueError."""
        chosen = check_modifiers(names)

        def rule_for(self: RuleOptimizer, param: Tensor, group: ParamGroup) -> Rule:
            return modify(cls.rule_for(self, param, group), chosen, param.ndim)

        return type(cls.__name__, (cls,), {"modifiers": chosen, "rule_for": rule_for, "first_update": None})

    def compile_rules(self) -> None:
        """Compile the element-wise rules at the next step, with a C++ compiler or Triton: see `optimizers.compiled`."""
        from optimizers.compiled import CompiledRules  # late: what traces and compiles takes seconds to import

        rules = CompiledRules()
        self.apply_rule, self.apply_together, self._buckets = rules, rules.apply, {}

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient. `closure` reevaluates the model and returns the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        if self._takes_the_whole():
            moving = ({**group, "params": [p for p in group["params"] if p.grad is not None]} for group in groups)
            groups = [merge_groups(kept)] if (kept := [group for group in moving if group["params"]]) else []
        for index, group in enumerate(groups):
            buckets = self._buckets_of(index, group)
            for advance in {bucket.rule.advance for bucket in buckets}:
                group.update(advance(group))
            if self.apply_together is None:
                for bucket in buckets:
                    bucket.step(group)
            else:
                self._step_together(buckets, group, self.apply_together)
        return loss

    def _step_together(self, buckets: list["_Bucket"], group: ParamGroup, apply: Callable[..., None]) -> None:
        """Update the parameters of one rule and one step count in one call."""
        alike: dict[tuple[Any, ...], list[_Bucket]] = {}
        for bucket in buckets:
            alike.setdefault(bucket.kind, []).append(bucket)
        for (rule, num_steps, *_), own in alike.items():
            apply(rule, [bucket.gather() for bucket in own], group, num_steps + 1)
            for bucket in own:
                bucket.scatter()

    def rule_groups(self) -> list[ParamGroup]:
        """The parameter groups as the rules see them: one where a rule takes the whole model."""
        return [merge_groups(self.param_groups)] if self._takes_the_whole() else self.param_groups

    def _takes_the_whole(self) -> bool:
        rule = getattr(self, "rule", None)  # some classes have several, by parameter
        return rule is not None and rule.layout == "whole"

    def _buckets_of(self, index: int, group: ParamGroup) -> list["_Bucket"]:
        params = [param for param in group["params"] if param.grad is not None]
        key = tuple(map(id, params))
        known, buckets = self._buckets.get(index, ((), []))
        if known != key:
            buckets = list(self._lay_out(params, group))
            self._buckets[index] = (key, buckets)
        return buckets

    def _lay_out(self, params: Sequence[Tensor], group: ParamGroup) -> Iterator["_Bucket"]:
        """Group parameters that one call may update: same rule, step count, dtype, device and (for stacks) shape."""
        rules = [self.rule_for(param, group) for param in params]
        calls: dict[tuple[Any, ...], list[Tensor]] = {}
        for position, (rule, param) in enumerate(zip(rules, params, strict=True)):
            shape, alone = rule.sharing_key(param, position)
            step = 0
            if rule.layout != "whole":
                step = self.state[param].get("step", 0)
                large = param.numel() >= _piece_size(param) or not param.is_contiguous() or _is_sharded(param)
                alone = position + 1 if large else alone
            key = (rules.index(rule), step, str(param.dtype), str(param.device), shape, alone)
            calls.setdefault(key, []).append(param)
        for key in sorted(calls):
            rule, joined = rules[key[0]], calls[key]
            for piece in [joined] if rule.layout == "whole" else _cut_into_pieces(joined):
                yield _Bucket(rule, piece, [self.state[param] for param in piece], self.apply_rule)


def _piece_size(tensor: Tensor) -> int:
    return PIECE_SIZE if tensor.device.type == "cpu" else ACCELERATOR_PIECE_SIZE


def _cut_into_pieces(params: list[Tensor]) -> Iterator[list[Tensor]]:
    piece: list[Tensor] = []
    for param in params:
        if piece and sum(p.numel() for p in piece) + param.numel() > _piece_size(param):
            yield piece
            piece = []
        piece.append(param)
    yield piece


class _Bucket:
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
