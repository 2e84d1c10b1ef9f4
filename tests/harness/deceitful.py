"""Optimizers that must never be packed, each for one reason; and a few that only look suspicious."""

import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Plain(torch.optim.Optimizer):
    """Gradient descent with weight decay, to be spoiled in one way each."""

    def __init__(self, params: Iterable[Any], lr: float = 0.01, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self.update(param, group)

    def update(self, param: Tensor, group: dict[str, Any]) -> None:
        if group["weight_decay"] != 0:  # the same way for all trials, or not packed
            param.mul_(1 - group["lr"] * group["weight_decay"])
        param.add_(param.grad, alpha=-group["lr"])


NUM_CALLS = 0
MOMENTUM: dict[int, Tensor] = {}


class GlobalCounter(Plain):
    def update(self, param: Tensor, group: dict[str, Any]) -> None:
        global NUM_CALLS
        NUM_CALLS += 1
        param.sub_(param.grad * (group["lr"] / (1 + NUM_CALLS % 7)))


class SilentGlobalCounter(Plain):
    """Whose count matters only later than any proof could see."""

    def update(self, param: Tensor, group: dict[str, Any]) -> None:
        global NUM_CALLS
        NUM_CALLS += 1
        super().update(param, group | {"lr": group["lr"] * (2 if NUM_CALLS > 10**6 else 1)})


class ClassCounter(Plain):
    count = 0

    def update(self, param: Tensor, group: dict[str, Any]) -> None:
        type(self).count += 1
        super().update(param, group)


def _make_counter() -> Callable[[], int]:
    numbers = itertools.count(1)
    return lambda: next(numbers)


class ClosureCounter(Plain):
    """Nobody looks into its counter."""

    update_number = staticmethod(_make_counter())

    def update(self, param: Tensor, group: dict[str, Any]) -> None:
        param.sub_(param.grad * (group["lr"] / self.update_number()))


class PythonRandom(Plain):
    def update(self, param: Tensor, group: dict[str, Any]) -> None:
        if random.random() < 0.001:
            param.zero_()
        super().update(param, group)


class NumpyRandom(Plain):
    def update(self, param: Tensor, group: dict[str, Any]) -> None:
        param.sub_(param.grad * group["lr"] * (1 + 1e-12 * np.random.rand()))


class TorchRandom(Plain):
    def update(self, param: Tensor, group: dict[str, Any]) -> None:
        param.sub_(group["lr"] * (param.grad + 0.01 * torch.randn_like(param)))


class ReadsItem(Plain):
    def update(self, param: Tensor, group: dict[str, Any]) -> None:
        param.sub_(param.grad * (group["lr"] / (1 + param.grad.norm().item())))


class Branches(Plain):
    def update(self, param: Tensor, group: dict[str, Any]) -> None:
        if param.grad.sum() > 0:
            super().update(param, group)


class StateOnItself(Plain):
    def update(self, param: Tensor, group: dict[str, Any]) -> None:
        self.momentum = getattr(self, "momentum", 0.0) + 1.0
        super().update(param, group)


class StateInModule(Plain):
    def update(self, param: Tensor, group: dict[str, Any]) -> None:
        MOMENTUM[id(param)] = MOMENTUM.get(id(param), torch.zeros(())) * 0.9 + param.grad
        param.sub_(group["lr"] * MOMENTUM[id(param)])


class StateOnParameter(Plain):
    def update(self, param: Any, group: dict[str, Any]) -> None:
        param.momentum = getattr(param, "momentum", 0.0) * 0.9 + param.grad
        param.sub_(group["lr"] * param.momentum)


class RemembersItsLr(Plain):
    """As AdaBound: a ratio of the lr to its initial value, which it keeps beside its groups."""

    def __init__(self, params: Iterable[Any], lr: float = 0.01, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr, weight_decay)
        self.first_lr = lr

    def update(self, param: Tensor, group: dict[str, Any]) -> None:
        self.state[param]["step"] = step = self.state[param].get("step", 0) + 1
        late = 0.01 * (group["lr"] / self.first_lr) if step > 1000 else 0.0
        param.sub_(param.grad * (late + group["lr"]))


DECEITFUL = (
    GlobalCounter,
    SilentGlobalCounter,
    ClassCounter,
    ClosureCounter,
    PythonRandom,
    NumpyRandom,
    TorchRandom,
    ReadsItem,
    Branches,
    StateOnItself,
    StateInModule,
    StateOnParameter,
    RemembersItsLr,
)


class Swapping(Plain):
    """As schedule-free methods: other weights for evaluations than for training, and a state that begins late."""

    def update(self, param: Tensor, group: dict[str, Any]) -> None:
        state = self.state[param]
        if not state:
            state["step"], state["average"], state["norm"] = torch.tensor(0.0), torch.zeros_like(param), torch.zeros(3)
        state["step"] += 1
        weight = 1 / state["step"].item()
        super().update(param, group)
        state["average"].lerp_(param, weight)
        state["norm"].add_(param.grad.norm())

    @torch.no_grad()
    def _swap(self) -> None:
        for param, state in self.state.items():
            kept = param.clone()
            param.copy_(state["average"])
            state["average"].copy_(kept)

    def eval(self) -> None:
        self._swap()

    def train(self) -> None:
        self._swap()


class SinglePrecision(Plain):
    """As HeavyBall's SOAP: what it computes with is in float32, whatever its parameters are in."""

    def update(self, param: Tensor, group: dict[str, Any]) -> None:
        param.sub_(group["lr"] * torch.eye(len(param)) @ param.grad)
