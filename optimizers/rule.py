"""What an update rule is, and the one function that applies it to a tensor.

A rule is an update function, the state it keeps and the way tensors may share one call. `torch.optim` classes in this
folder wrap a rule for one model; the harness applies the very same `apply_rule` to many models at once, by broadcasting
where a rule is element-wise and under `torch.vmap` elsewhere.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from bench.errors import OptionError

Layout: TypeAlias = Literal["flat", "stack", "single", "whole"]
Scalar: TypeAlias = float | Tensor
Betas: TypeAlias = tuple[Scalar, ...]
ParamGroup: TypeAlias = dict[str, Any]  # as in `torch.optim`: `params`, `lr` and the other hyperparameters by name
InitState: TypeAlias = Callable[[Tensor], dict[str, Tensor]]

WEIGHT_DECAY_METHODS = ("decoupled", "independent", "l2", "palm")


def descend(param: Tensor, update: Tensor, lr: Scalar) -> None:
    """`param -= lr * update` in place; `update` is not needed any more."""
    if isinstance(lr, Tensor):
        param.sub_(update.mul_(cast(lr, update)))  # alpha takes no tensor
    else:
        param.sub_(update, alpha=lr)


def keep_numbers(group: Mapping[str, Any]) -> dict[str, Scalar]:
    """An `advance` that changes nothing."""
    return {}


@dataclass(frozen=True)
class Rule:
    """One update rule.

    Attributes:
        update: `update(grad, *state, **hyperparameters) -> direction`, a new tensor in the shape of `grad`, before the
            learning rate. It changes the state in place, leaves `grad` alone and never looks at a tensor's value. Its
            keyword-only arguments are names of hyperparameters, or `step` for the 1-based step count, or `param`
            for the parameter after its decay, to be left alone.
        init_state: maps a parameter to its state tensors by name, in the order in which `update` takes them.
        layout: how tensors may share one call of `update`. `flat`: joined end to end or cut anywhere (element-wise
            rules). `stack`: those of one shape along new leading axes (rules over the last two axes). `single`: alone.
            `whole`: all of a model's, over all parameter groups, end to end in one call (rules with a statistic of the
            whole model). Its groups are one, see `merge_groups`.
        decays: whether weight decay applies.
        shared_state: the names of state tensors that a whole model has once, not per entry of its parameters.
        finish: functions of (update, gradient) that change the update in turn, see `optimizers.modifiers`.
        move: `move(param, update, lr, *state)` changes the parameter; its state comes last in `init_state`. Its
            keyword-only arguments are names of hyperparameters too.
        advance: `advance(group)` gives, before every step, the group's hyperparameters that are new at this step.
        evaluated: the name of the state that holds the weights to be evaluated, where those are not the parameters.
    """

    update: Callable[..., Tensor]
    init_state: InitState
    layout: Layout
    decays: bool = True
    shared_state: tuple[str, ...] = ()
    finish: tuple[Callable[[Tensor, Tensor], Tensor], ...] = ()
    move: Callable[..., None] = descend
    advance: Callable[[Mapping[str, Any]], dict[str, Scalar]] = keep_numbers
    evaluated: str | None = None
    hyperparameters: tuple[str, ...] = field(init=False)
    moving_hyperparameters: tuple[str, ...] = field(init=False)
    num_moving_states: int = field(init=False)

    def __post_init__(self) -> None:
        moving = _keyword_only(self.move)
        object.__setattr__(self, "hyperparameters", _keyword_only(self.update))
        object.__setattr__(self, "moving_hyperparameters", moving)
        object.__setattr__(self, "num_moving_states", len(inspect.signature(self.move).parameters) - 3 - len(moving))

    def sharing_key(self, param: Tensor, position: int) -> tuple[tuple[int, ...], int]:
        """Equal for those parameters of this rule, each at a position of its own, that one call may take together."""
        shape = tuple(param.shape) if self.layout == "stack" else ()
        return shape, position + 1 if self.layout == "single" else 0

    def exchange(self, param: Tensor, state: Mapping[str, Tensor]) -> None:
        """The parameter and the weights to be evaluated take each other's values, where they are not the same."""
        if self.evaluated is not None:
            other, kept = state[self.evaluated], param.clone()
            param.copy_(other)
            other.copy_(kept)

    def join(self, tensors: Sequence[Tensor]) -> Tensor:
        """One buffer of this rule's layout from tensors that share a call."""
        if self.layout == "stack":
            return torch.stack([tensor.detach() for tensor in tensors])
        if self.layout == "single":
            return tensors[0].detach()
        return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])

    def cut(self, buffer: Tensor, shapes: Sequence[torch.Size], dim: int = 0) -> Sequence[Tensor]:
        """The part of each tensor in a joined buffer with `dim` axes before its layout, in the shape of the layout."""
        if self.layout == "stack":
            return buffer.unbind(dim)
        return [buffer] if self.layout == "single" else torch.split(buffer, [shape.numel() for shape in shapes], dim)


def _keyword_only(function: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def zeros_state(*names: str) -> InitState:
    """An `init_state` with one buffer of zeros in the parameter's shape per name."""
    return lambda param: {name: torch.zeros_like(param, memory_format=torch.contiguous_format) for name in names}


def apply_rule(
    rule: Rule, param: Tensor, grad: Tensor, state: Iterable[Tensor], group: Mapping[str, Any], step: int | Tensor
) -> None:
    """Decay `param`, then move it by the update, in place.

    Args:
        rule: the update rule.
        param: one tensor of one trial, or several in the rule's layout.
        grad: the gradient in the shape of `param`; left unchanged.
        state: the rule's buffers, changed in place.
        group: `lr`, `weight_decay`, `weight_decay_method` and the rule's hyperparameters, as numbers or as tensors that
            broadcast against `param`.
        step: the 1-based step count, an int or a float64 tensor.
    """
    lr, weight_decay = group["lr"], group["weight_decay"]
    if rule.decays and not (isinstance(weight_decay, float) and weight_decay == 0.0):
        match group["weight_decay_method"]:
            case "decoupled":
                param.mul_(cast(1 - lr * weight_decay, param))
            case "independent":
                param.mul_(cast(1 - weight_decay, param))
            case "palm":
                param.mul_(cast(1 - lr**2 * weight_decay, param))
            case "l2":
                grad = grad + cast(weight_decay, param) * param
    known, buffers = {**group, "step": step, "param": param}, list(state)
    moving = len(buffers) - rule.num_moving_states
    update = rule.update(grad, *buffers[:moving], **{name: known[name] for name in rule.hyperparameters})
    for finish in rule.finish:
        update = finish(update, grad)
    rule.move(param, update, lr, *buffers[moving:], **{name: known[name] for name in rule.moving_hyperparameters})


def merge_groups(groups: Sequence[ParamGroup]) -> ParamGroup:
    """Parameter groups as one, for the layout `whole`.

    Numbers in which the groups differ become vectors with an entry for every entry of the joined parameters.

    Raises:
        ValueError: the groups differ in something that is no single number.
    """
    merged: ParamGroup = {"params": [param for group in groups for param in group["params"]]}
    for name in groups[0].keys() - {"params"}:
        values = [group[name] for group in groups]
        if all(value == values[0] for value in values):
            merged[name] = values[0]
        elif all(isinstance(value, float) for value in values):
            pairs = [(param, group[name]) for group in groups for param in group["params"]]
            merged[name] = torch.cat([torch.full_like(param, value).reshape(-1) for param, value in pairs])
        else:
            raise OptionError(name, values, "expected the same value in every parameter group")
    return merged


def cast(number: Scalar, tensor: Tensor) -> Scalar:
    """`number` as it may meet `tensor`: a float64 tensor would drag every element through float64."""
    return number.to(tensor.dtype) if isinstance(number, Tensor) else number


def lerp(start: Tensor, end: Tensor, weight: Scalar) -> Tensor:
    """`start + weight (end - start)`."""
    return torch.lerp(start, end, cast(weight, start))


def ema_(buffer: Tensor, value: Tensor, beta: Scalar) -> Tensor:
    """`buffer = lerp(buffer, value, 1 - beta)` in place."""
    weight = cast(1 - beta, buffer)
    if isinstance(weight, Tensor) and weight.ndim == 0:  # vmap has a batching rule for lerp, none for lerp_
        return buffer.copy_(torch.lerp(buffer, value, weight))
    return buffer.lerp_(value, weight)


def bias_correction(beta: Scalar, step: int | Tensor, correct_bias: bool) -> Scalar:
    """`1 - beta^step`, what an EMA that began at zero has seen so far of its weights; 1 without `correct_bias`."""
    correction: Scalar = 1 - beta**step if correct_bias else 1.0
    return correction


def debias(average: Tensor, beta: Scalar, step: int | Tensor, correct_bias: bool) -> Tensor:
    """An EMA over its `bias_correction`, a new tensor."""
    return average / cast(bias_correction(beta, step, correct_bias), average)


def normalize(
    numerator: Tensor, mean_sq: Tensor, eps: Scalar, correction: Scalar = 1.0, correction_sq: Scalar = 1.0
) -> Tensor:
    r"""`(numerator / correction) / (sqrt(mean_sq / correction_sq) + eps)`, a new tensor.

    Every rule with a second moment by element divides here, so that two of them which agree in their formulas agree in
    every bit. The numerator's correction, moved into the denominator, costs no pass over the data.
    """
    denominator = mean_sq.sqrt().mul_(cast(correction / correction_sq**0.5, mean_sq))
    return denominator.add_(cast(correction * eps, mean_sq)).reciprocal_().mul_(numerator)


def check_at_least(name: str, value: float, minimum: float) -> float:
    """`value` as a float. Raises ValueError, naming the argument, if it is not finite or below `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value < float("inf"):
        raise OptionError(name, value, f"expected a finite number of at least {minimum:g}")
    return float(value)


def check_count(name: str, value: int) -> int:
    """`value` itself. Raises ValueError, naming the argument, if it is not a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(name, value, "expected a whole number of at least 1")
    return value


def check_fraction(name: str, value: float) -> float:
    """`value` as a float. Raises ValueError, naming the argument, if it is not a number in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise OptionError(name, value, "expected a number in [0, 1)")
    return float(value)


def check_betas(name: str, values: Iterable[float], count: int) -> tuple[float, ...]:
    """`values` as floats. Raises ValueError, naming the argument, unless they are `count` numbers in [0, 1)."""
    betas = tuple(values)
    if len(betas) != count:
        raise OptionError(name, betas, f"expected {count} numbers in [0, 1)")
    return tuple(check_fraction(f"{name}[{index}]", beta) for index, beta in enumerate(betas))


def check_choice(name: str, value: str, allowed: Iterable[str]) -> str:
    """`value` itself. Raises ValueError, naming the argument, if it is not one of `allowed`."""
    choices = tuple(allowed)
    if value not in choices:
        raise OptionError(name, value, f"expected one of {', '.join(choices)}")
    return value
