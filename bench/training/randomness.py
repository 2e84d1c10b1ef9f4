"""Random numbers inside models, the same wherever a trial trains.

A dropped unit is a function of (the trial's seed, the step, the place in the forward pass, the unit) and of nothing
else: no generator's state. Alone, in any pack, resumed and on another device a trial therefore drops the same units,
whatever its optimizer.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Key = TypeVar("Key", int, Tensor)
BITS = 32
MASK = 2**BITS - 1
OFFSET = 0x9E3779B9  # keeps seed 0 from being the fixed point of `mix`
SELU_ALPHA = 1.7580993408473766  # what alpha dropout sets units to, Klambauer et al. 2017, arXiv 1706.02515


def mix(x: Key) -> Key:
    """A bijection of 32-bit numbers that spreads every bit over all: lowbias32 of Wellons, on int or int64."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & MASK
    return x ^ (x >> 16)


class CountedRandomness(TorchFunctionMode):
    """While entered, dropout and the usual random functions of torch draw by counting.

    Entering a mode slows down small models, so that `of` enters it only where the first step drew something.

    Attributes:
        is_needed: whether anything was drawn; None until the first step has shown it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_needed: bool | None = None
        self._key: Any = 0
        self._place = 0
        self._is_first_step = True
        self._counters: dict[tuple[int, torch.device], Tensor] = {}

    @contextmanager
    def of(self, seed: Key, step: int | Tensor) -> Iterator[None]:
        """Draw for `seed`, an int or an int64 tensor, at `step`, from the first place on.

        Args:
            seed: the trial's.
            step: the 1-based step, a number or a tensor of one; 0 for evaluations, which repeat themselves.
        """
        if self.is_needed is False:
            yield
            return
        count: Any = step.long() if isinstance(step, Tensor) else step
        self._key, self._place = mix(mix((seed + OFFSET) & MASK) ^ count), 0
        with self:
            yield

    def end_first_step(self) -> None:
        """From here on it is known whether the model draws anything."""
        self.is_needed, self._is_first_step = bool(self.is_needed), False

    def refused_in_backward(self) -> AbstractContextManager[Any]:
        """Around a backward pass: in the first one, whoever draws there, which gives other numbers, is refused.

        Raises:
            RuntimeError: something was drawn.
        """
        return _NoDraws() if self.is_needed and self._is_first_step else nullcontext()  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        draw = DRAWS.get(func)
        options = dict(kwargs or {})
        if draw is None or (func is F.scaled_dot_product_attention and not _attention_drops(*args, **options)):
            return func(*args, **options)
        self.is_needed = True
        return draw(self, *args, **options)

    def bits(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """int64 of `shape`, uniform in [0, 2^32), another draw at every call."""
        self._place += 1
        count = math.prod(shape)
        if (count, device) not in self._counters:
            self._counters[count, device] = mix(torch.arange(count, device=device))
        bits: Tensor = mix(self._counters[count, device] ^ mix(self._key ^ self._place))
        return bits.reshape(tuple(shape))

    def uniform(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """float64 of `shape`, uniform in (0, 1)."""
        return self.bits(shape, device).double().add(0.5).div(2**BITS)

    def normal(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """float64 of `shape`, standard normal (Box and Muller 1958)."""
        radius = self.uniform(shape, device).log().mul(-2).sqrt()
        return self.uniform(shape, device).mul(2 * math.pi).cos().mul(radius)

    def keep(self, shape: Sequence[int], like: Tensor, p: float) -> Tensor:
        """1 with probability 1 - p, else 0, in the dtype of `like`."""
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        return self.bits(shape, like.device).ge(round(p * 2**BITS)).to(like.dtype)


class _NoDraws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise RuntimeError("dropout in a forward pass that is computed again (activation checkpointing)")
        return func(*args, **(kwargs or {}))


def _dropout(
    randomness: CountedRandomness,
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    shape_of: Callable[[Tensor], Sequence[int]] = lambda input: input.shape,
    alpha: float | None = None,
) -> Tensor:
    """As in `torch.nn.functional`; `alpha` is for alpha dropout, which keeps mean and variance of a SELU net."""
    if not training or p == 0.0:
        return input
    keep = randomness.keep(shape_of(input), input, p)
    if alpha is None:
        dropped = input * (keep / (1 - p) if p < 1 else keep)
    else:
        gain = ((1 + p * alpha**2) * (1 - p)) ** -0.5 if p < 1 else 0.0
        dropped = input * keep * gain + (keep - 1 + p) * (alpha * gain)
    return input.copy_(dropped) if inplace else dropped


def _channels(input: Tensor, num_spatial: int | None = None) -> list[int]:
    """The shape of a mask that drops whole channels; an input with `num_spatial` + 1 axes has no batch axis."""
    leading = 1 if num_spatial is not None and input.ndim == num_spatial + 1 else 2
    return [*input.shape[:leading], *[1] * (input.ndim - leading)]


def _attention_drops(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    *_: Any,
    **__: Any,
) -> bool:
    return dropout_p > 0.0


def _attention(
    randomness: CountedRandomness,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Scaled dot product attention whose weights are dropped."""
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.where(attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return _dropout(randomness, scores.softmax(-1), dropout_p) @ value


def _draw(
    randomness: CountedRandomness,
    *size: Any,
    kind: str,
    dtype: torch.dtype | None = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """`torch.rand` and `torch.randn`."""
    shape = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
    place = torch.get_default_device() if device is None else torch.device(device)
    drawn: Tensor = getattr(randomness, kind)(shape, place)
    return drawn.to(dtype or torch.get_default_dtype()).requires_grad_(requires_grad)


def _draw_like(randomness: CountedRandomness, input: Tensor, *, kind: str, dtype: Any = None, **_: Any) -> Tensor:
    """`torch.rand_like` and `torch.randn_like`."""
    drawn: Tensor = getattr(randomness, kind)(input.shape, input.device)
    return drawn.to(dtype or input.dtype)


def _fill(
    randomness: CountedRandomness, input: Tensor, start: float = 0.0, second: float = 1.0, *, kind: str, **_: Any
) -> Tensor:
    """`Tensor.uniform_(from, to)` and `Tensor.normal_(mean, std)`."""
    scale = second - start if kind == "uniform" else second
    return input.copy_(start + scale * getattr(randomness, kind)(input.shape, input.device))


def _bernoulli(randomness: CountedRandomness, input: Tensor, p: Any = None, *, fill: bool = False, **_: Any) -> Tensor:
    """`torch.bernoulli(probabilities)`, and `Tensor.bernoulli_(p)` where `fill`."""
    chance = p if p is not None else 0.5 if fill else input
    drawn = (randomness.uniform(input.shape, input.device) < chance).to(input.dtype)
    return input.copy_(drawn) if fill else drawn


DRAWS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.dropout: _dropout,
    F.dropout1d: partial(_dropout, shape_of=partial(_channels, num_spatial=1)),
    F.dropout2d: partial(_dropout, shape_of=_channels),
    F.dropout3d: partial(_dropout, shape_of=partial(_channels, num_spatial=3)),
    F.alpha_dropout: partial(_dropout, alpha=SELU_ALPHA),
    F.feature_alpha_dropout: partial(_dropout, alpha=SELU_ALPHA, shape_of=_channels),
    torch.dropout: lambda randomness, input, p, train: _dropout(randomness, input, p, train),
    torch.dropout_: lambda randomness, input, p, train: _dropout(randomness, input, p, train, inplace=True),
    F.scaled_dot_product_attention: _attention,
    torch.rand: partial(_draw, kind="uniform"),
    torch.randn: partial(_draw, kind="normal"),
    torch.rand_like: partial(_draw_like, kind="uniform"),
    torch.randn_like: partial(_draw_like, kind="normal"),
    torch.Tensor.uniform_: partial(_fill, kind="uniform"),
    torch.Tensor.normal_: partial(_fill, kind="normal"),
    torch.bernoulli: _bernoulli,
    torch.Tensor.bernoulli: _bernoulli,
    torch.Tensor.bernoulli_: partial(_bernoulli, fill=True),
}
