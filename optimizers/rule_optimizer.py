"""The `torch.optim.Optimizer` around a rule: the only step loop of this folder.

It updates parameters by the bucket (`optimizers.buckets`); buckets are laid out anew whenever the set of parameters
with gradients changes.
"""

from collections.abc import Callable, Iterable
from inspect import unwrap
from itertools import chain
from typing import Any, Self, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT, StateDict

from optimizers.buckets import Bucket, lay_out
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

TORCH_SWITCHES = {  # in the groups of torch's own optimizers, and of no meaning here
    "amsgrad",
    "capturable",
    "decoupled_weight_decay",
    "differentiable",
    "foreach",
    "fused",
    "maximize",
}


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
        self._buckets: dict[int, tuple[tuple[int, ...], list[Bucket]]] = {}
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

    def _step_together(self, buckets: list[Bucket], group: ParamGroup, apply: Callable[..., None]) -> None:
        """Update the parameters of one rule and one step count in one call."""
        alike: dict[tuple[Any, ...], list[Bucket]] = {}
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

    def _buckets_of(self, index: int, group: ParamGroup) -> list[Bucket]:
        params = [param for param in group["params"] if param.grad is not None]
        key = tuple(map(id, params))
        known, buckets = self._buckets.get(index, ((), []))
        if known != key:
            rules, states = [self.rule_for(param, group) for param in params], [self.state[param] for param in params]
            buckets = list(lay_out(params, rules, states, self.apply_rule))
            self._buckets[index] = (key, buckets)
        return buckets
