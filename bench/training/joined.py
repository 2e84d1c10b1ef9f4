"""What torch's `vmap` takes apart and need not: attention, root-mean-square norms and cross-entropies of packs.

torch has no batching rule for its fused kernels of attention and of the norm: `vmap` would run attention trial by
trial, and the norm as a handful of calls forward and a dozen backward. Both treat all leading axes alike, so a trial is
joined with the batch and the kernel runs once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

MAX_SEQUENCES = 65_535  # in one call: CUDA's limit of a grid's second and third axis
IGNORED = -100  # torch's label of an example that does not count
FULL_PRECISION = (torch.float32, torch.float64)  # elsewhere, torch rounds a norm after its weight


class JoinedKernels(TorchFunctionMode):
    """While entered, attention and norms under `vmap` run once for all trials, and a cross-entropy takes fewer calls.

    Attention with a mask, dropout or grouped queries takes torch's unfused path, which `vmap` can batch. A
    cross-entropy with anything but one whole number per example is torch's own.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func is F.rms_norm and args[0].dtype in FULL_PRECISION:
            return _rms_norm(*args, **options)
        if func is F.linear and len(args) == 3 and args[2] is not None:
            return F.linear(args[0], args[1]) + args[2]  # `vmap` would multiply by torch.addmm's factors of 1
        if func is F.cross_entropy and _is_plain(*args, **options):
            return _cross_entropy(*args, **options)
        if func is not F.scaled_dot_product_attention:
            return func(*args, **options)
        if len(args) == 3 and options.keys() <= {"is_causal", "scale"}:
            return _Attention.apply(*args, options.get("is_causal", False), options.get("scale"))  # type: ignore[no-untyped-call]
        with sdpa_kernel(SDPBackend.MATH):
            return func(*args, **options)


class _Attention(torch.autograd.Function):
    """Attention of query, key and value, each `[..., length, width]`, with a batching rule."""

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scale: float | None) -> Tensor:
        return attend(query, key, value, is_causal, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept: a pack differentiates outside of `vmap`, where it finds the kernel's own backward."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        *tensors, is_causal, scale = inputs
        query, key, value = (
            _lead(tensor, dim, info.batch_size).flatten(0, 1) for tensor, dim in zip(tensors, in_dims, strict=False)
        )
        chunks = [
            attend(q, k, v, is_causal, scale)
            for q, k, v in zip(*(torch.split(tensor, MAX_SEQUENCES) for tensor in (query, key, value)), strict=True)
        ]
        attended = chunks[0] if len(chunks) == 1 else torch.cat(chunks)
        return attended.view(info.batch_size, -1, *attended.shape[1:]), 0


class _Normalize(torch.autograd.Function):
    """A root-mean-square norm over the last axes, without a weight, with a batching rule."""

    @staticmethod
    def forward(input: Tensor, shape: Sequence[int], eps: float | None) -> Tensor:
        return normalize(input, shape, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """As for attention."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        input, shape, eps = inputs
        return normalize(_lead(input, in_dims[0], info.batch_size), shape, eps), 0


def attend(query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scale: float | None) -> Tensor:
    """One kernel forward on a GPU, and one backward."""
    return F.scaled_dot_product_attention(query, key, value, is_causal=is_causal, scale=scale)


def normalize(input: Tensor, shape: Sequence[int], eps: float | None) -> Tensor:
    """One kernel forward on a GPU, and one backward."""
    return F.rms_norm(input, list(shape), None, eps)


def _lead(tensor: Tensor, trial_dim: int | None, num_trials: int) -> Tensor:
    """`tensor` with the trials along its first axis, repeated where all trials share it."""
    if trial_dim is None:
        return tensor.expand(num_trials, *tensor.shape)
    return tensor.movedim(trial_dim, 0) if trial_dim else tensor  # a view would add gradients up in another order


def _rms_norm(input: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    normalized: Tensor = _Normalize.apply(input, shape, eps)  # type: ignore[no-untyped-call]
    return normalized if weight is None else normalized * weight


def _is_plain(*args: Any, **options: Any) -> bool:
    """Whether a cross-entropy is that of rows of logits and one label each, without further arguments."""
    if len(args) != 2 or options:
        return False
    logits, labels = args
    return logits.ndim == 2 and labels.ndim == 1 and not labels.is_floating_point()


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    ignored = labels == IGNORED
    chosen = logits.log_softmax(-1).gather(-1, labels.masked_fill(ignored, 0)[:, None])[:, 0]
    return -(chosen.masked_fill(ignored, 0.0).sum() / (len(labels) - ignored.sum()))
