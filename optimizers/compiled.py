"""Element-wise rules as compiled kernels, each of which reads and writes every tensor once.

A rule mixes arithmetic on a few numbers (learning rate, decay rates, bias corrections; in float64) with arithmetic on
large tensors. Tracing tells the two apart. The numbers are worked out once a step, outside of the kernel, which would
work them out anew for every entry. They reach it as tensors, so that nothing is compiled again when the step count or
the learning rate changes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from optimizers.rule import Rule, apply_rule

Options = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class SplitRule:
    """An element-wise rule in two parts.

    Attributes:
        numbers: from float64 numbers `[K, 1]` to those that meet the tensors, most of them in their dtype.
        tensors: `tensors(param, grad, *state, *numbers)` changes rows `[K, P]` in place, by what `numbers` returned.
    """

    numbers: Callable[..., Sequence[Tensor]]
    tensors: Callable[..., Any]


class CompiledRules:
    """In the place of `apply_rule`: compiles element-wise rules on contiguous tensors, and applies all others.

    A kernel is compiled for each size of tensors, and serves any number of trials from two on.
    """

    def __init__(self) -> None:
        self._latest: tuple[Any, Sequence[Tensor]] = (None, ())

    def __call__(
        self, rule: Rule, param: Tensor, grad: Tensor, state: Iterable[Tensor], group: Mapping[str, Any], step: int
    ) -> None:
        """As `apply_rule`, for one trial, or for rows of several with numbers `[K, 1]`.

        Raises:
            RuntimeError: the rule cannot be traced or compiled; one line.
        """
        tensors = [param, grad, *state]
        if rule.layout != "flat" or not all(tensor.is_contiguous() for tensor in tensors):
            apply_rule(rule, param, grad, tensors[2:], group, step)
            return
        options, numbers = _tell_apart(rule, {**group, "step": float(step)})
        leaves, spec = tree_flatten(numbers)
        is_pack = any(isinstance(leaf, Tensor) and leaf.ndim == 2 for leaf in leaves)
        rows = [tensor.detach() if is_pack else tensor.detach().view(1, -1) for tensor in tensors]
        try:
            kernel = _compile_rule(
                rule, options, spec, tuple(row.dtype for row in rows), param.device, rows[0].shape[1]
            )
            values = self._evaluate(kernel.numbers, leaves, param.device)
            for tensor in (*rows, *values) if is_pack else ():
                torch._dynamo.maybe_mark_dynamic(tensor, 0)  # trials may leave
            kernel.tensors(*rows, *values)
        except Exception as error:  # torch's compiler, the one behind it, or a rule that nothing can trace
            text = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RuntimeError(f"{rule.update.__name__} cannot be compiled: {text}") from error

    def _evaluate(
        self, evaluate: Callable[..., Sequence[Tensor]], leaves: Sequence[Any], device: torch.device
    ) -> Sequence[Tensor]:
        """What the rule makes of its numbers, for all tensors of a parameter group once a step."""
        if any(isinstance(leaf, Tensor) for leaf in leaves):
            return evaluate(*(_as_row(leaf, device) for leaf in leaves))
        key = (evaluate, device, leaves)
        if self._latest[0] != key:
            values = evaluate(*torch.tensor(leaves, dtype=torch.float64).view(-1, 1, 1))
            self._latest = key, [value.to(device, non_blocking=True) for value in values]
        return self._latest[1]


@cache
def _compile_rule(
    rule: Rule, options: Options, spec: TreeSpec, dtypes: tuple[torch.dtype, ...], device: torch.device, size: int
) -> SplitRule:
    """`split_rule` with its second part compiled, for rows of one size."""
    split = split_rule(rule, options, spec, dtypes, device)
    return SplitRule(split.numbers, torch.compile(split.tensors, fullgraph=True, dynamic=False))


def split_rule(
    rule: Rule, options: Options, spec: TreeSpec, dtypes: Sequence[torch.dtype], device: torch.device
) -> SplitRule:
    """Trace an element-wise rule, and part what depends on its numbers alone from what touches a tensor.

    Args:
        rule: the rule.
        options: what it is given by name that is no number.
        spec: of its numbers by name, `step` among them.
        dtypes: of parameter, gradient and state.
        device: where they are.
    """

    def apply(*flat: Tensor) -> None:
        group = {**dict(options), **tree_unflatten(list(flat[len(dtypes) :]), spec)}
        apply_rule(rule, flat[0], flat[1], flat[2 : len(dtypes)], group, group["step"])

    tensors = [torch.zeros(2, 2, dtype=dtype, device=device) for dtype in dtypes]
    numbers = [torch.ones(2, 1, dtype=torch.float64, device=device) for _ in range(spec.num_leaves)]
    traced = make_fx(apply, tracing_mode="fake")(*tensors, *numbers)
    inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
    touched = set(inputs[: len(dtypes)])
    apart: list[fx.Node] = []
    for node in traced.graph.nodes:
        if touched.intersection(node.all_input_nodes):
            touched.add(node)
        elif node.op not in ("placeholder", "output"):
            apart.append(node)
    meeting = [node for node in (*inputs[len(dtypes) :], *apart) if touched.intersection(node.users)]
    touching = [node for node in traced.graph.nodes if node in touched and node.op not in ("placeholder", "output")]
    of_numbers = _graph_of(traced, inputs[len(dtypes) :], apart, meeting)
    return SplitRule(of_numbers.forward, _graph_of(traced, [*inputs[: len(dtypes)], *meeting], touching, []))


def _graph_of(
    traced: fx.GraphModule, inputs: Sequence[fx.Node], nodes: Iterable[fx.Node], outputs: Sequence[fx.Node]
) -> fx.GraphModule:
    """Some nodes of a traced function as a function of its own."""
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output([copies[node] for node in outputs])
    return fx.GraphModule(traced, graph)


def _tell_apart(rule: Rule, group: Mapping[str, Any]) -> tuple[Options, dict[str, Any]]:
    """The options by which a rule chooses what it does, and the numbers with which it does it."""
    options: dict[str, Any] = {}
    numbers: dict[str, Any] = {}
    for name in dict.fromkeys(
        ("lr", "weight_decay", "weight_decay_method", "step", *rule.hyperparameters, *rule.moving_hyperparameters)
    ):
        value = group.get(name)  # there is no `param` in a group
        is_off = name == "weight_decay" and not isinstance(value, Tensor) and value == 0.0
        is_number = isinstance(value, float | Tensor | tuple) and not is_off
        (numbers if is_number else options)[name] = value
    return tuple(options.items()), numbers


def _as_row(number: Any, device: torch.device) -> Tensor:
    tensor = torch.as_tensor(number, dtype=torch.float64, device=device)
    return tensor if tensor.ndim == 2 else tensor.reshape(1, 1)
