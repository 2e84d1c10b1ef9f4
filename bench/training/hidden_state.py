"""What an optimizer keeps outside of its `state` and its groups, and the random numbers that it draws.

A pack would share the former between its trials, and no checkpoint has it.
"""

import random
import sys
from collections.abc import Iterator, Sequence
from itertools import count
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

KNOWN = ("state", "param_groups", "defaults", "_buckets")
OF_TORCH = (
    "__",
    "_optimizer_",
    "_zero_grad_profile_name",
    "_warned_",
    "_need_device_dtype_check",
)  # its own attributes
OPAQUE = (nn.Parameter, FunctionType, BuiltinFunctionType, MethodType, ModuleType, type)
MAX_DEPTH = 6


class HiddenState:
    """A look at everything hidden around optimizers, to be compared with a later look.

    Args:
        optimizers: those of one trial.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = optimizers
        self.before = dict(self._look())

    def changed(self) -> str | None:
        """What has changed since, in words; None if nothing has."""
        for place, now in self._look():
            if self.before.get(place) != now:
                return place
        return None

    def _look(self) -> Iterator[tuple[str, Any]]:
        yield "draws random numbers of Python", random.getstate()
        yield "draws random numbers of NumPy", repr(np.random.get_state())
        yield "draws random numbers", torch.get_rng_state().numpy().tobytes()
        for optimizer in self.optimizers:
            places = {"the optimizer": vars(optimizer)}
            for owner in type(optimizer).__mro__:
                if not owner.__module__.startswith("torch.") and owner is not object:
                    places[f"the class {owner.__name__}"] = dict(vars(owner))
                    places[f"the module {owner.__module__}"] = vars(sys.modules[owner.__module__])
            for place, names in places.items():
                for name, value in list(names.items()):
                    if name not in KNOWN and not name.startswith(OF_TORCH):
                        yield f"keeps {name} in {place}, outside of its state", _picture(value, MAX_DEPTH)


def find_private_number(optimizers: Sequence[torch.optim.Optimizer]) -> str | None:
    """In words, an attribute with a number that differs between optimizers of several trials; None if there is none.

    A pack gives each trial its own groups and state; of attributes there is one for all.
    """
    for name in vars(optimizers[0]):
        if name not in KNOWN and not name.startswith(OF_TORCH):
            leaves = (tree_leaves(getattr(optimizer, name, None)) for optimizer in optimizers)
            if len({repr([leaf for leaf in own if isinstance(leaf, int | float)]) for own in leaves}) > 1:
                return f"keeps a hyperparameter in the attribute {name}, outside of its groups"
    return None


def _picture(value: Any, depth: int) -> Any:
    """Something that compares equal exactly while the value stays what it is."""
    if isinstance(value, OPAQUE) or depth == 0:
        return id(value)
    if isinstance(value, Tensor):
        return tuple(value.shape), value.detach().flatten().double().cpu().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | count):
        return repr(value)
    if isinstance(value, dict):
        return [(_picture(key, depth - 1), _picture(item, depth - 1)) for key, item in list(value.items())]
    if isinstance(value, list | tuple | set | frozenset):
        return [_picture(item, depth - 1) for item in value]
    for name in ("getstate", "get_state"):  # generators of Python, NumPy, torch
        if callable(getattr(value, name, None)):
            return _picture(getattr(value, name)(), depth - 1)
    inside = getattr(value, "__dict__", None)
    return [id(value), _picture(inside, depth - 1) if isinstance(inside, dict) else None]
