"""Lets the `step()` of any optimizer run under `torch.vmap` with hyperparameters that differ between trials.

Such a hyperparameter is a float64 tensor without axes. Optimizers treat theirs as Python's numbers, and torch refuses
tensors where it expects those. While `PerTrialNumbers` is entered, every call that would be refused is made in a form
that means the same.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

COMPARISONS = {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}
HALVES = (torch.bfloat16, torch.float16)
SUMS = ("addmm", "mm", "matmul", "__matmul__", "bmm", "baddbmm", "norm", "vector_norm", "linalg_vector_norm")
FACTORIES = ("zeros", "ones", "full", "empty", "eye", "zeros_like", "ones_like", "full_like", "empty_like")


class TrialsDifferError(RuntimeError):
    """A branch that some trials would take and others not."""


class PerTrialNumbers(TorchFunctionMode):
    """While entered, tensors without axes may stand where torch expects a number.

    Args:
        numbers: the values in all trials of every hyperparameter that differs, by the id of its tensor.
        zero: a tensor without axes that differs between trials for `vmap`: what is added to it does too.
        dtype: of the parameters.
    """

    def __init__(self, numbers: Mapping[int, Sequence[float]], zero: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.numbers, self.zero, self.dtype = numbers, zero, dtype

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if args and id(args[0]) in self.numbers:
            comparison = COMPARISONS.get(name.strip("_"), bool if name == "__bool__" else None)
            if comparison is not None:
                return self._compare(comparison, *args)
        if name.startswith("_foreach_"):
            return self._one_by_one(name.removeprefix("_foreach_"), args, options)
        out = options.pop("out", None)
        args, options = self._cast(args), self._cast(options)
        term = TERMS.get(name.rstrip("_"))
        if name in SUMS and args[0].dtype in HALVES:
            func = partial(_trial_by_trial, func)
        if term is not None and isinstance(args[0], Tensor):
            method = ("sub" if name.startswith("sub") else "add") + ("_" if name.endswith("_") else "")
            result = getattr(args[0], method)(term(*args, **options))
        elif name in ("lerp", "lerp_"):
            result = _lerp(*args, **options)
            result = args[0].copy_(result) if name.endswith("_") else result
        else:
            result = func(*args, **options)
        if name in FACTORIES and result.ndim > 0:
            result = result + self.zero.to(result.dtype)
        return result if out is None else out.copy_(result)

    def _compare(self, comparison: Callable[..., bool], *operands: Any) -> bool:
        """What a comparison of hyperparameters gives in every trial; they never change, so that it is the same later.

        Raises:
            TrialsDifferError: it is true in some trials only.
        """
        columns = [self.numbers.get(id(operand), repeat(operand)) for operand in operands]
        answers = {bool(comparison(*values)) for values in zip(*columns, strict=False)}
        if len(answers) > 1:
            raise TrialsDifferError("branches on a hyperparameter, and trials would go different ways")
        return answers.pop()

    def _one_by_one(self, name: str, args: Sequence[Any], options: dict[str, object]) -> list[Any]:
        """`torch._foreach_NAME` as calls of `Tensor.NAME`; lists go along, everything else is shared."""
        if len(args) == 4:  # addcmul and addcdiv
            *args, options["value"] = args
        if "scalars" in options:
            options["value"] = options.pop("scalars")
        function = torch.linalg.vector_norm if name == "norm" else getattr(Tensor, name)
        columns = [arg if isinstance(arg, list | tuple) else repeat(arg) for arg in (*args, *options.values())]
        return [
            self.__torch_function__(function, (), own[: len(args)], dict(zip(options, own[len(args) :], strict=True)))
            for own in zip(*columns, strict=False)
        ]

    def _cast(self, values: Any) -> Any:
        """float64 without axes is a number: it never widens the floating tensors that it meets."""
        if self.dtype == torch.float64:
            return values
        dtypes: list[torch.dtype] = []
        tree_map_only(Tensor, lambda tensor: dtypes.append(tensor.dtype), values)
        narrow = [dtype for dtype in dtypes if dtype.is_floating_point and dtype != torch.float64]
        if not narrow or len(narrow) == len(dtypes):
            return values
        return tree_map_only(
            Tensor, lambda t: t.to(narrow[0]) if t.ndim == 0 and t.dtype == torch.float64 else t, values
        )


class _TrialByTrial(torch.autograd.Function):
    """A function of tensors that `vmap` is to call once for each trial."""

    @staticmethod
    def forward(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        return function(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept: optimizers do not differentiate."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], function: Any, *tensors: Tensor) -> tuple[Tensor, int]:
        own = [t.unbind(dim) if dim is not None else repeat(t) for t, dim in zip(tensors, in_dims[1:], strict=True)]
        return torch.stack([function(*row) for row in zip(*own, strict=False)]), 0


def _trial_by_trial(func: Callable[..., Tensor], *args: Any, **options: Any) -> Tensor:
    """What `func` gives for each trial alone: in half precision, a sum over a batch would be rounded otherwise."""
    leaves, spec = tree_flatten((args, options))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def call(*tensors: Tensor) -> Tensor:
        own = dict(zip(places, tensors, strict=True))
        own_args, own_options = tree_unflatten([own.get(i, leaf) for i, leaf in enumerate(leaves)], spec)
        return func(*own_args, **own_options)

    result: Tensor = _TrialByTrial.apply(call, *(leaves[i] for i in places))  # type: ignore[no-untyped-call]
    return result


def _times(input: Tensor, other: Any, alpha: Any = 1) -> Any:
    """`alpha * other` in the precision in which it is added to `input`."""
    if isinstance(alpha, int) and alpha == 1:
        return other
    return (other.to(torch.result_type(input, other)) if isinstance(other, Tensor) else other) * alpha


def _lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    return torch.lerp(input, end, weight.to(input.dtype) if isinstance(weight, Tensor) else weight)


TERMS: Mapping[str, Callable[..., Any]] = {
    "add": _times,
    "sub": _times,
    "addcmul": lambda input, tensor1, tensor2, value=1: _times(input, tensor1, value) * tensor2,
    "addcdiv": lambda input, tensor1, tensor2, value=1: _times(input, tensor1, value) / tensor2,
}
"""What is added to, or subtracted from, the first operand."""
