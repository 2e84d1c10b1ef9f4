"""Any torch optimizer for K trials at once: its own `step()` under `torch.vmap`, without a line in its code.

One of the K optimizers is the template. For the length of a call its parameters, gradients, state and hyperparameters
are those of all trials. A tensor of the state that all trials share, as torch's own `step`, stays one tensor; what
becomes different between trials gets a leading axis K.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from bench.training.bucket import Bucket
from bench.training.per_trial import PerTrialNumbers
from bench.training.probes import SecondMoment, find_second_moment
from bench.training.routing import Route

OTHER_KERNELS = ("foreach", "fused")  # options for one kernel over many tensors, which `vmap` cannot batch


class ForeignBucket(Bucket):
    """All parameters of one route of K trials.

    Args:
        routes: the optimizer of each trial, of one class and one structure.
        shapes: each parameter's shape in the model, by name.

    Raises:
        ValueError: the optimizers differ by more than numbers and tensors.
    """

    def __init__(self, routes: Sequence[Route], shapes: Mapping[str, torch.Size]) -> None:
        self.template = routes[0].optimizer
        groups = self.template.param_groups
        names = [[routes[0].names[id(param)] for param in group["params"]] for group in groups]
        self.groups = [range(sum(map(len, names[:i])), sum(map(len, names[: i + 1]))) for i in range(len(names))]
        self.shapes = {name: shapes[name] for own in names for name in own}
        self.inner_shapes = [param.shape for group in groups for param in group["params"]]
        self.param = torch.stack([torch.cat([p.detach().reshape(-1) for p in _params(route)]) for route in routes])
        self.lrs = [[float(route.optimizer.param_groups[i]["lr"]) for route in routes] for i in range(len(groups))]
        self.last_lr = torch.tensor(self.lrs, dtype=torch.float64, device=self.param.device).T
        self.without_grad: frozenset[str] = frozenset()
        self.tree = _Tree.join([_tree_of(route.optimizer) for route in routes], self.param.device)
        self.make_leaves()

    def pieces(self, buffer: Tensor) -> Sequence[Tensor]:
        return torch.split(buffer, [shape.numel() for shape in self.shapes.values()], dim=1)

    def split(self, names: Collection[str]) -> Iterator["ForeignBucket"]:
        """Itself: the optimizer leaves out parameters without a gradient."""
        yield self

    def leave_out(self, names: Collection[str]) -> None:
        self.without_grad = frozenset(self.shapes).intersection(names)
        for name in self.without_grad:
            self.grad_views[name].zero_()

    def step(self, lr_factor: float | Tensor) -> None:
        lrs = [[lr * float(lr_factor) for lr in own] for own in self.lrs]
        self.last_lr = torch.tensor(lrs, dtype=torch.float64, device=self.param.device).T
        self._call("step", lrs)

    def set_mode(self, mode: str) -> None:
        if callable(getattr(self.template, mode, None)):
            self._call(mode, self.lrs)

    def _call(self, method: str, lrs: Sequence[Sequence[float]]) -> None:
        """Call a method of the template for all trials."""
        kind: Any = {"dtype": torch.float64, "device": self.param.device}
        differing = {i: torch.tensor(own, **kind) for i, own in enumerate(lrs) if any(lr != own[0] for lr in own)}
        result: list[_Tree] = []

        def call_one(params: Any, grads: Any, own: Any, own_lrs: Any, zero: Tensor) -> Any:
            numbers = {id(own_lrs[i]): lrs[i] for i in own_lrs}
            numbers |= {id(own[i]): values for i, values in self.tree.numbers.items()}
            states, groups = self.tree.with_trial(own)
            self._install(params, grads, states, groups, [own_lrs.get(i, lrs[i][0]) for i in range(len(lrs))])
            with PerTrialNumbers(numbers, zero, self.param.dtype):
                getattr(self.template, method)()
            after = _tree_of(self.template, params)
            tree = self.tree.after(after, own)
            result.append(tree)
            return params, [tree.leaves[i] for i in sorted(tree.batched - tree.kept.keys())]

        params, grads = self._in_inner_shapes(self.param), self._in_inner_shapes(self.grad)
        inputs = {i: self.tree.leaves[i] for i in sorted(self.tree.batched)}
        zeros = torch.zeros(len(self.param), **kind)
        moved, new = torch.vmap(call_one)(params, grads, inputs, differing, zeros)
        self.tree = result[0].filled(new, self.tree)
        for param, own in zip(params, moved, strict=True):
            if own.data_ptr() != param.data_ptr():
                param.copy_(own)
        self._install([], [], [], [{} for _ in lrs], [0.0] * len(lrs))

    def _install(self, params: Any, grads: Any, states: Any, groups: Any, lrs: Sequence[Any]) -> None:
        """Make the template the optimizer of these parameters, with this state."""
        for param, grad, name in zip(params, grads, self.shapes, strict=False):
            param.grad = None if name in self.without_grad else grad
        known = {param: state for param, state in zip(params, states, strict=True) if state is not None}
        self.template.state = defaultdict(dict, known)
        for group, members, values, lr in zip(self.template.param_groups, self.groups, groups, lrs, strict=True):
            group.clear()
            group.update(values, params=[params[i] for i in members] if params else [], lr=lr)
            group.update({name: False for name in OTHER_KERNELS if name in group})

    def _in_inner_shapes(self, buffer: Tensor) -> list[Tensor]:
        pieces = zip(self.pieces(buffer), self.inner_shapes, strict=True)
        return [piece.view(len(buffer), *shape) for piece, shape in pieces]

    def keep(self, positions: Tensor) -> None:
        super().keep(positions)
        self.lrs = [[own[i] for i in positions.tolist()] for own in self.lrs]
        self.tree = self.tree.keep(positions)

    def param_lrs(self) -> list[Tensor]:
        return [self.last_lr[:, group] for group, members in enumerate(self.groups) for _ in members]

    def seconds(self) -> list[SecondMoment | None]:
        states, groups = self.tree.with_trial({})
        moments: list[SecondMoment | None] = []
        for members, group in zip(self.groups, groups, strict=True):
            for state in ((states[i] or {}) for i in members):
                second, shape = state.get("exp_avg_sq"), self.inner_shapes[len(moments)]
                fits = isinstance(second, Tensor) and second.shape[1:] == shape
                steps = state.get("step", group.get("step"))
                moments.append(find_second_moment(second, group, steps) if fits else None)
        return moments

    def state_bytes(self) -> int:
        return self.tree.state_bytes()

    def state_dict(self) -> Mapping[str, object]:
        return {"names": list(self.shapes), "param": self.param, **self.tree.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.check_names(state)
        self.param.copy_(state["param"])
        self.tree = _Tree.load(state, self.param.device)


class _Tree:
    """State and hyperparameters of K optimizers as one tree.

    Attributes:
        batched: positions of the leaves that have a leading axis K.
        numbers: the values of hyperparameters that differ between trials, by position.
        kept: where a new tree has the tensors of the one before it, by position in both.
    """

    def __init__(self, leaves: list[Any], spec: Any, batched: set[int], numbers: dict[int, list[float]]) -> None:
        self.leaves, self.spec, self.batched, self.numbers = leaves, spec, batched, numbers
        self.kept: dict[int, int] = {}

    @classmethod
    def join(cls, trees: Sequence[Any], device: torch.device) -> "_Tree":
        flat = [tree_flatten(tree) for tree in trees]
        if any(spec != flat[0][1] for _, spec in flat):
            raise ValueError("its state has another structure in other trials")
        tree = cls([], flat[0][1], set(), {})
        for position, values in enumerate(zip(*(leaves for leaves, _ in flat), strict=True)):
            leaf, is_batched = _join_leaf(values, device)
            tree.leaves.append(leaf)
            if is_batched:
                tree.batched.add(position)
                if not isinstance(values[0], Tensor):
                    tree.numbers[position] = [float(value) for value in values]
        return tree

    def with_trial(self, own: Mapping[int, Any]) -> tuple[list[Any], list[Mapping[str, Any]]]:
        """States and groups, with the leaves in `own` in their places."""
        states, groups = tree_unflatten([own.get(i, leaf) for i, leaf in enumerate(self.leaves)], self.spec)
        return states, groups

    def after(self, tree: Any, own: Mapping[int, Any]) -> "_Tree":
        """What became of this one inside of `vmap`, where it began with `own`."""
        leaves, spec = tree_flatten(tree)
        batched = {i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and is_batchedtensor(leaf)}
        positions = {id(leaf): position for position, leaf in own.items()}
        new = _Tree(leaves, spec, batched, {})
        new.kept = {i: positions[id(leaves[i])] for i in sorted(batched) if id(leaves[i]) in positions}
        new.numbers = {i: self.numbers[old] for i, old in new.kept.items() if old in self.numbers}
        return new

    def filled(self, tensors: Sequence[Tensor], before: "_Tree") -> "_Tree":
        """With what `vmap` returned for the leaves that are new, and those of `before` for the others."""
        for position, tensor in zip(sorted(self.batched - self.kept.keys()), tensors, strict=True):
            self.leaves[position] = tensor
        for position, old in self.kept.items():
            self.leaves[position] = before.leaves[old]
        return self

    def keep(self, positions: Tensor) -> "_Tree":
        leaves = [leaf[positions] if i in self.batched else leaf for i, leaf in enumerate(self.leaves)]
        numbers = {i: [values[position] for position in positions.tolist()] for i, values in self.numbers.items()}
        return _Tree(leaves, self.spec, self.batched, numbers)

    def state_bytes(self) -> int:
        states, _ = self.with_trial({i: self.leaves[i][0] for i in self.batched})
        tensors = [leaf for leaf in tree_flatten(states)[0] if isinstance(leaf, Tensor)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def state_dict(self) -> Mapping[str, object]:
        on_device = [i for i, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor) and leaf.device.type != "cpu"]
        return {
            "tree": tree_unflatten(self.leaves, self.spec),
            "batched": sorted(self.batched),
            "numbers": self.numbers,
            "on_device": on_device,
        }

    @classmethod
    def load(cls, state: Mapping[str, Any], device: torch.device) -> "_Tree":
        leaves, spec = tree_flatten(state["tree"])
        leaves = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        for position in state["on_device"]:
            leaves[position] = leaves[position].to(device)
        return cls(leaves, spec, set(state["batched"]), dict(state["numbers"]))


def _tree_of(optimizer: torch.optim.Optimizer, params: Sequence[Tensor] | None = None) -> tuple[Any, Any]:
    """State by parameter, and groups without parameters and lr, which a schedule sets."""
    own = [param for group in optimizer.param_groups for param in group["params"]] if params is None else params
    states = [dict(optimizer.state[param]) if param in optimizer.state else None for param in own]
    groups = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in optimizer.param_groups]
    return states, groups


def _join_leaf(values: Sequence[Any], device: torch.device) -> tuple[Any, bool]:
    """One leaf for all trials, and whether it has a leading axis K."""
    first = values[0]
    if isinstance(first, Tensor):
        if first.ndim == 0 and all(torch.equal(first, value) for value in values):
            return first.clone(), False
        return torch.stack([value.detach() for value in values]), True
    if all(type(value) is type(first) and value == first for value in values):
        return first, False
    if all(isinstance(value, float) for value in values):
        return torch.tensor(values, dtype=torch.float64, device=device), True
    raise ValueError(f"it keeps {type(first).__name__} objects that differ between trials")


def _params(route: Route) -> list[Tensor]:
    return [param for group in route.optimizer.param_groups for param in group["params"]]
