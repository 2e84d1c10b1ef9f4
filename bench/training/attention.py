"""Fused attention inside packs.

torch has no batching rule for its fused attention kernels: `vmap` would run them trial by trial. Attention treats all
leading axes alike, so a trial is joined with the batch and the kernel runs once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

MAX_SEQUENCES = 65_535  # in one call: CUDA's limit of a grid's second and third axis


class JoinedAttention(TorchFunctionMode):
    """While entered, `scaled_dot_product_attention` under `vmap` runs once for all trials.

    A call with a mask, dropout or grouped queries takes torch's unfused path, which `vmap` can batch.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
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
        return F.scaled_dot_product_attention(query, key, value, is_causal=is_causal, scale=scale)

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
            F.scaled_dot_product_attention(q, k, v, is_causal=is_causal, scale=scale)
            for q, k, v in zip(*(torch.split(tensor, MAX_SEQUENCES) for tensor in (query, key, value)), strict=True)
        ]
        attended = chunks[0] if len(chunks) == 1 else torch.cat(chunks)
        return attended.view(info.batch_size, -1, *attended.shape[1:]), 0


def _lead(tensor: Tensor, trial_dim: int | None, num_trials: int) -> Tensor:
    """`tensor` with the trials along its first axis, repeated where all trials share it."""
    return tensor.expand(num_trials, *tensor.shape) if trial_dim is None else tensor.movedim(trial_dim, 0)
