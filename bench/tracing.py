"""A function traced and parted: what depends on a few numbers alone, and what touches large tensors.

A compiler that fuses everything would work the numbers out anew for every entry of the tensors that they meet.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

OUTSIDE = ("placeholder", "output")


@dataclass(frozen=True, eq=False)
class Parts:
    """A function of (*tensors, *numbers) in two parts.

    Attributes:
        numbers: from the numbers to those that meet tensors, and behind them those that are results.
        num_meeting: how many meet tensors.
        tensors: from the tensors and the numbers that meet them to the results that depend on tensors; changes tensors
            in place where the function does.
        places: where each result of the function stands among those of both parts, the tensors' first.
    """

    numbers: Callable[..., Sequence[Tensor]]
    num_meeting: int
    tensors: fx.GraphModule
    places: Sequence[int]

    def __call__(self, tensors: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
        """What the function returns, from its tensors and from what `numbers` returned."""
        found = [*self.tensors(*tensors, *values[: self.num_meeting]), *values[self.num_meeting :]]
        return [found[place] for place in self.places]


def trace_in_parts(
    function: Callable[..., Sequence[Tensor]], tensors: Sequence[Tensor], numbers: Sequence[Tensor]
) -> Parts:
    """Part a function of (*tensors, *numbers), without running it; tensors that it finds elsewhere become constants.

    Raises:
        RuntimeError: the function branches on the value of a tensor.
    """
    traced = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*tensors, *numbers)
    nodes = list(traced.graph.nodes)
    inputs = [node for node in nodes if node.op == "placeholder"]
    of_tensors, of_numbers = inputs[: len(tensors)], inputs[len(tensors) :]
    results: list[fx.Node] = list(nodes[-1].args[0])
    touched = set(of_tensors)
    for node in nodes:
        if touched.intersection(node.all_input_nodes) or _holds_data(traced, node):
            touched.add(node)
    inner = [node for node in nodes if node.op not in OUTSIDE]
    apart = [node for node in inner if node not in touched]
    meeting = [
        node for node in (*of_numbers, *apart) if any(user in touched and user.op != "output" for user in node.users)
    ]
    number_results = [node for node in results if node not in touched]
    tensor_results = [node for node in results if node in touched]
    ordered = [*tensor_results, *number_results]
    return Parts(
        _graph_of(traced, of_numbers, apart, [*meeting, *number_results]).forward,
        len(meeting),
        _graph_of(traced, [*of_tensors, *meeting], [node for node in inner if node in touched], tensor_results),
        [ordered.index(node) for node in results],
    )


def _holds_data(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether this is a constant that is no number."""
    return node.op == "get_attr" and getattr(traced, str(node.target)).numel() > 1


def _graph_of(
    traced: fx.GraphModule, inputs: Sequence[fx.Node], nodes: Iterable[fx.Node], outputs: Sequence[fx.Node]
) -> fx.GraphModule:
    """Some nodes of a traced function as a function of its own."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {node: graph.placeholder(node.name) for node in inputs}
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output([copies[node] for node in outputs])
    return fx.GraphModule(traced, graph)
