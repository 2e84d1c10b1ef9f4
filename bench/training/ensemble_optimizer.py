"""The optimizers of K trials as one: parameters with a leading axis K in buckets that are updated together."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.training.bucket import Bucket
from bench.training.foreign import ForeignBucket
from bench.training.probes import Probe
from bench.training.routing import RoutedOptimizer
from bench.training.rule_bucket import Rule, RuleBucket

Params = Mapping[str, nn.Parameter]


class EnsembleOptimizer:
    """Parameters, gradients and optimizer state of K trials, and the step that updates them.

    Args:
        optimizers: one per trial, of one structure; they tell rules, groups and hyperparameters.
        params: each trial's parameters by name, with their initial values.

    Attributes:
        params: the stacked parameters by name, leaves of autograd, each `[K, *shape]`.
        joins_gradients: put them into new buffers, which a compiler makes less of than of copies into parts of one.
        unused: the names of those that had no gradient in the last step.
    """

    def __init__(self, optimizers: Sequence[RoutedOptimizer], params: Sequence[Params]) -> None:
        self.num_steps = 0
        self.joins_gradients = False
        self.buckets = list(_lay_out(optimizers, params))
        self.unused: frozenset[str] = frozenset()

    @property
    def params(self) -> dict[str, Tensor]:
        return {name: leaf for bucket in self.buckets for name, leaf in bucket.leaves.items()}

    def backward(self, losses: Tensor) -> None:
        """Fill the gradients of all trials from their losses, `[K]`.

        Parameters on which these do not depend get none, and no step: they are set apart in buckets of their own.
        """
        params = self.params
        found = torch.autograd.grad(losses, list(params.values()), torch.ones_like(losses), allow_unused=True)
        grads = dict(zip(params, found, strict=True))
        unused = frozenset(name for name, grad in grads.items() if grad is None)
        if unused != self.unused:
            self.leave_out(unused)
        if self.joins_gradients:
            for bucket in self.rule_buckets:
                if bucket in self._used:
                    bucket.join_gradients(grads)
            return
        views = {name: view for bucket in self.buckets for name, view in bucket.grad_views.items()}
        used = [name for name in views if name not in unused]
        torch._foreach_copy_([views[name] for name in used], [grads[name] for name in used])

    def leave_out(self, names: frozenset[str]) -> None:
        """The parameters with these names have no gradient, and all others have one."""
        self.buckets, self.unused = self._set_apart(names), names
        for bucket in self.buckets:
            bucket.leave_out(names)

    def _set_apart(self, names: Collection[str]) -> list["Bucket"]:
        return [part for bucket in self.buckets for part in bucket.split(names)]

    @property
    def _used(self) -> list["Bucket"]:
        return [bucket for bucket in self.buckets if not self.unused.issuperset(bucket.shapes)]

    def clip(self, max_norm: float | None, loss_scale: float) -> Tensor:
        """Scale every trial's gradients so that the joint norm of the unscaled ones is at most `max_norm`, if any.

        Returns:
            That norm before, `[K]`.
        """
        grads = [bucket.grad.flatten(1) for bucket in self._used]
        unscaled = grads if loss_scale == 1.0 else [grad / loss_scale for grad in grads]
        norms = torch.stack([torch.linalg.vector_norm(grad, dim=1) for grad in unscaled])
        norm: Tensor = torch.linalg.vector_norm(norms, dim=0)
        if max_norm is not None:
            factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
            for grad in grads:
                grad.mul_(factor[:, None])
        return norm

    @torch.no_grad()
    def step(self, lr_factor: float | Tensor) -> None:
        self.num_steps += 1
        for bucket in self._used:
            bucket.step(lr_factor)

    @property
    def rule_buckets(self) -> list[RuleBucket]:
        """Those of the buckets that are built on rules."""
        return [bucket for bucket in self.buckets if isinstance(bucket, RuleBucket)]

    def keep(self, positions: Tensor) -> None:
        """Go on with the trials at `positions`, an int64 tensor."""
        for bucket in self.buckets:
            bucket.keep(positions)

    def probes(self, labels: Mapping[str, str], before: Mapping[str, Tensor]) -> Iterator[Probe]:
        """Every parameter around the last step, from `before` to now."""
        for bucket in self.buckets:
            known = zip(bucket.leaves.items(), bucket.param_lrs(), bucket.seconds(), strict=True)
            for (name, leaf), lr, second in known:
                yield Probe(labels[name], leaf.detach() - before[name], lr, second)

    @torch.no_grad()
    def set_mode(self, mode: str) -> None:
        """Tell optimizers that keep two sets of weights (schedule-free) whether they `train` or `eval`."""
        for bucket in self.buckets:
            bucket.set_mode(mode)

    def state(self) -> Mapping[str, object]:
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
        return sum(bucket.state_bytes() for bucket in self.buckets)


def _lay_out(optimizers: Sequence[RoutedOptimizer], params: Sequence[Params]) -> Iterator[Bucket]:
    """Buckets of parameters with the same optimizer, group and rule, and for stacks the same shape."""
    for position, route in enumerate(optimizers[0].routes):
        optimizer: Any = route.optimizer
        if not has_rules(type(optimizer)):
            routes = [other.routes[position] for other in optimizers]
            yield ForeignBucket(routes, {name: params[0][name].shape for name in route.names.values()})
            continue
        twins: list[Any] = [other.routes[position].optimizer for other in optimizers]
        for groups in _join_alike(zip(*(twin.rule_groups() for twin in twins), strict=True)):
            for rule, indices in _find_calls(optimizer, groups[0]):
                names = [route.names[id(groups[0]["params"][index])] for index in indices]
                shapes = {name: params[0][name].shape for name in names}
                values = [[group["params"][index].detach() for index in indices] for group in groups]
                yield RuleBucket(optimizer.apply_rule, rule, groups, shapes, values)


def _join_alike(groups: Iterable[Sequence[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """Parameter groups, each as those of all trials, with one in the place of several that agree in every option."""
    joined: list[list[dict[str, Any]]] = []
    for own in groups:
        twin = next((other for other in joined if [_options(group) for group in other] == list(map(_options, own))), [])
        for group, more in zip(twin, own, strict=False):
            group["params"] += more["params"]
        if not twin:
            joined.append([{**group, "params": list(group["params"])} for group in own])
    return joined


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def _find_calls(optimizer: Any, group: Mapping[str, Any]) -> Iterator[tuple[Rule, list[int]]]:
    """The rules of a parameter group, each with the positions of parameters that one call updates."""
    rules: list[Rule] = [optimizer.rule_for(param, group) for param in group["params"]]
    calls: dict[tuple[Any, ...], list[int]] = {}
    for position, (rule, param) in enumerate(zip(rules, group["params"], strict=True)):
        calls.setdefault((rules.index(rule), *rule.sharing_key(param, position)), []).append(position)
    for key in sorted(calls):
        yield rules[key[0]], calls[key]


def has_rules(optimizer_class: type) -> bool:
    """Whether an optimizer is built on update rules, as `optimizers.rule_optimizer` has it."""
    return hasattr(optimizer_class, "rule_for") and hasattr(optimizer_class, "apply_rule")
