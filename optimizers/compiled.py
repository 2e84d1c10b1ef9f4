"""Element-wise rules as compiled kernels, each of which reads and writes every tensor once.

A rule mixes arithmetic on a few numbers (learning rate, decay rates, bias corrections; in float64) with arithmetic on
large tensors. Tracing tells the two apart. The numbers are worked out once a step, outside of the kernel, which would
work them out anew for every entry. They reach it as tensors, so that nothing is compiled again when the step count or
the learning rate changes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import compress
from operator import not_
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from bench.tracing import Parts, trace_in_parts
from optimizers.rule import Betas, Rule, Scalar, apply_rule

Options = tuple[tuple[str, Any], ...]
TENSORS_PER_CALL = 16  # a call costs time in Python, and a kernel of n tensors n times the time to compile


class CompiledRules:
    """In the place of `apply_rule`: compiles element-wise rules on contiguous tensors, and applies all others.

    A kernel is compiled for the sizes of the tensors that share a call, and serves any number of trials from two on.
    """

    def __init__(self) -> None:
        self._latest: tuple[Any, Sequence[Tensor]] = (None, ())

    def __call__(
        self, rule: Rule, param: Tensor, grad: Tensor, state: Iterable[Tensor], group: Mapping[str, Any], step: int
    ) -> None:
        """As `apply_rule`, for one trial, or for rows of several with numbers `[K, 1]`. Errors are those of `apply`."""
        self.apply(rule, [(param, grad, *state)], group, step)

    def apply(self, rule: Rule, calls: Sequence[Sequence[Tensor]], group: Mapping[str, Any], step: int) -> None:
        """The rule on several parameters, each with its gradient and state, few calls from Python for all of them.

        Raises:
            RuntimeError: the rule cannot be traced or compiled; one line.
        """
        compiled = [rule.layout == "flat" and all(tensor.is_contiguous() for tensor in call) for call in calls]
        for param, grad, *state in compress(calls, map(not_, compiled)):
            apply_rule(rule, param, grad, state, group, step)
        alike = sorted(compress(calls, compiled), key=lambda call: call[0].numel())
        for first in range(0, len(alike), TENSORS_PER_CALL):
            try:
                self._apply_compiled(rule, alike[first : first + TENSORS_PER_CALL], group, step)
            except Exception as error:  # torch's compiler, the one behind it, or a rule that nothing can trace
                text = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise RuntimeError(f"{rule.update.__name__} cannot be compiled: {text}") from error

    def _apply_compiled(
        self, rule: Rule, calls: Sequence[Sequence[Tensor]], group: Mapping[str, Any], step: int
    ) -> None:
        options, numbers = _tell_apart(rule, {**group, "step": float(step)})
        leaves, spec = tree_flatten(numbers)
        is_pack = any(isinstance(leaf, Tensor) and leaf.ndim == 2 for leaf in leaves)
        rows = [tensor.detach() if is_pack else tensor.detach().view(1, -1) for call in calls for tensor in call]
        are_many = tuple(isinstance(leaf, Tensor) and leaf.numel() > 1 for leaf in leaves)
        dtypes, device = tuple(tensor.dtype for tensor in calls[0]), rows[0].device
        parts = _trace_rule(rule, options, spec, are_many, dtypes, device)
        values = self._evaluate(parts.numbers, leaves, device)
        if is_pack:
            _let_trials_leave([*rows, *values])
        _compile_calls(parts, len(dtypes), tuple((row.dtype, row.shape[1]) for row in rows))(*rows, *values)

    def _evaluate(
        self, evaluate: Callable[..., Sequence[Tensor]], leaves: Sequence[Any], device: torch.device
    ) -> Sequence[Tensor]:
        """What the rule makes of its numbers, for all tensors of a parameter group once a step."""
        if any(isinstance(leaf, Tensor) for leaf in leaves):
            numbers = [_as_row(leaf, device) for leaf in leaves]
            _let_trials_leave(numbers)
            return _compile_numbers(evaluate)(*numbers)
        key = (evaluate, device, leaves)
        if self._latest[0] != key:
            if device.type == "cpu":
                evaluate = _compile_numbers(evaluate)
            values = evaluate(*torch.tensor(leaves, dtype=torch.float64).view(-1, 1, 1))
            self._latest = key, [value.to(device, non_blocking=True) for value in values]
        return self._latest[1]


@cache
def _trace_rule(
    rule: Rule,
    options: Options,
    spec: TreeSpec,
    are_many: tuple[bool, ...],
    dtypes: tuple[torch.dtype, ...],
    device: torch.device,
) -> Parts:
    """An element-wise rule in parts, for rows of any size.

    Args:
        rule: the rule.
        options: what it is given by name that is no number.
        spec: of its numbers by name, `step` among them.
        are_many: which of them have several values, one per trial. What is compiled of the parts is for these alone.
        dtypes: of parameter, gradient and state.
        device: where they are.
    """

    def apply(*flat: Tensor) -> list[Tensor]:
        group = {**dict(options), **tree_unflatten(list(flat[len(dtypes) :]), spec)}
        apply_rule(rule, flat[0], flat[1], flat[2 : len(dtypes)], group, group["step"])
        return []

    rows = [torch.zeros(2, 2, dtype=dtype, device=device) for dtype in dtypes]
    numbers = [torch.ones(2, 1, dtype=torch.float64, device=device) for _ in range(spec.num_leaves)]
    return trace_in_parts(apply, rows, numbers)


@cache
def _compile_calls(parts: Parts, num_rows: int, layouts: tuple[tuple[torch.dtype, int], ...]) -> Callable[..., object]:
    """The part of a rule that touches tensors as one function of (*rows, *numbers), compiled for rows of these layouts.

    The first `num_rows` are a parameter with its gradient and its state; those of the next parameter follow.
    """
    graph = fx.Graph()  # with code of its own, since torch compiles the same code for so many sizes and no more
    rows = [graph.placeholder(f"row_{index}") for index in range(len(layouts))]
    numbers = [graph.placeholder(f"number_{index}") for index in range(parts.num_meeting)]
    inputs = parts.tensors.graph.find_nodes(op="placeholder")
    for first in range(0, len(layouts), num_rows):
        own = [*rows[first : first + num_rows], *numbers]
        graph.graph_copy(parts.tensors.graph, dict(zip(inputs, own, strict=True)))
    graph.output(())
    return _compile(fx.GraphModule(parts.tensors, graph).forward)


@cache
def _compile_numbers(evaluate: Callable[..., Sequence[Tensor]]) -> Callable[..., Sequence[Tensor]]:
    return _compile(evaluate)


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """For tensors of one layout: torch would take 0.2 ms to look at those of 60 tensors again at every call."""
    options: dict[str, Any] = {  # a new one each time, from which torch takes the filter
        "guard_filter_fn": lambda guards: [guard.guard_type != "TENSOR_MATCH" for guard in guards],
        "cpp.max_horizontal_fusion_size": 1,  # a loop over several tensors would read memory at too many places
    }
    return torch.compile(function, fullgraph=True, dynamic=False, options=options)


def _let_trials_leave(tensors: Iterable[Tensor]) -> None:
    """Compile for any number of rows, from two on."""
    for tensor in tensors:
        torch._dynamo.maybe_mark_dynamic(tensor, 0)


def _tell_apart(rule: Rule, group: Mapping[str, Any]) -> tuple[Options, dict[str, Scalar | Betas]]:
    """The options by which a rule chooses what it does, and the numbers with which it does it."""
    options: dict[str, object] = {}
    numbers: dict[str, Scalar | Betas] = {}
    for name in dict.fromkeys(
        ("lr", "weight_decay", "weight_decay_method", "step", *rule.hyperparameters, *rule.moving_hyperparameters)
    ):
        value = group.get(name)  # there is no `param` in a group
        is_off = name == "weight_decay" and not isinstance(value, Tensor) and value == 0.0
        if isinstance(value, float | Tensor | tuple) and not is_off:
            numbers[name] = value
        else:
            options[name] = value
    return tuple(options.items()), numbers


def _as_row(number: Any, device: torch.device) -> Tensor:
    tensor = torch.as_tensor(number, dtype=torch.float64, device=device)
    return tensor if tensor.ndim == 2 else tensor.reshape(1, 1)
