"""Newton-Schulz iterations: the orthogonal factor of a matrix from matrix products alone.

Coefficient sets: Jordan et al. 2024, "Muon" (simple, quintic); Amsel et al. 2025, arXiv 2505.16932 (polar_express);
Grishina et al. 2025, arXiv 2506.10935 (cans); Boissin et al. 2025, arXiv 2512.04632 (aol).
"""

import math
from collections.abc import Iterator, Sequence
from itertools import chain, cycle, islice, repeat
from typing import Any, TypeAlias

import torch
from torch import Tensor

from bench.errors import OptionError

Coefficients: TypeAlias = tuple[float, float, float]

SIMPLE: Coefficients = (3.4445, -4.7750, 2.0315)

CYCLED: dict[str, tuple[Coefficients, ...]] = {
    "simple": (SIMPLE,),
    "quintic": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
    "aol": (
        (4.0098, -7.0585, 2.4635),
        (3.4585, -5.5479, 2.5959),
        (2.7573, -3.2939, 1.4254),
        (2.7215, -3.0494, 1.3169),
    ),
}

LAST_REPEATED: dict[str, tuple[Coefficients, ...]] = {
    "polar_express": (
        (8.2051, -22.9019, 16.4607),
        (4.0664, -2.8612, 0.5184),
        (3.9096, -2.8234, 0.5250),
        (3.2856, -2.4153, 0.4853),
        (2.2779, -1.6198, 0.3985),
        (1.8726, -1.2307, 0.3585),
        (1.8564, -1.2132, 0.3568),
        (1.8750, -1.2500, 0.3750),
    ),
    "cans": (
        (8.4703, -25.1081, 18.6293),
        (4.1828, -3.1087, 0.5806),
        (3.9619, -2.9541, 0.5630),
        (3.2866, -2.4647, 0.5074),
        (2.2737, -1.6447, 0.4162),
    ),
    "deepseekv4": (*repeat(SIMPLE, 8), (2.0, -1.5, 0.5)),
}

CUBIC5: tuple[Coefficients, ...] = (
    (3.3656576, -3.3420992, 0),
    (2.5744352, -1.4957376, 0),
    (2.5368962, -1.4312570, 0),
    (2.4418906, -1.2764040, 0),
    (2.2230472, -0.9630650, 0),
)

BUILT_IN_TYPES = (*CYCLED, *LAST_REPEATED, "cubic5")
COEFFICIENT_TYPES = (*BUILT_IN_TYPES, "custom")


def newton_schulz(
    x: Tensor,
    steps: int,
    coefficient_type: str = "quintic",
    custom_coefficient_sets: Sequence[Coefficients] | None = None,
    eps: float = 1e-15,
) -> Tensor:
    r"""An approximation of the orthogonal polar factor $U V^T$ of each matrix $X = U S V^T$.

    $$X_0 = X / \max(\|X\|_F, \epsilon), \quad A = X_i X_i^T, \quad X_{i+1} = a X_i + (b A + c A^2) X_i$$

    It runs in the dtype of `x`, on the transposed matrices if they are tall. First each matrix is divided by the power
    of two at its largest entry, so that no square under- or overflows: multiplying it by another power of two leaves
    the result bit-identical.

    Args:
        x: `[..., M, N]`; left unchanged.
        steps: number of iterations, at least 1.
        coefficient_type: one of `COEFFICIENT_TYPES`, which says the (a, b, c) of each step.
        custom_coefficient_sets: the sets of the type `custom`, cycled.
        eps: lower bound of the Frobenius norm after that division, by which it is at least 1; larger ones shrink.

    Returns:
        `[..., M, N]`, a new tensor, which autograd does not follow.

    Raises:
        ValueError: fewer than two axes, an unknown coefficient type, steps < 1 or not 5 for `cubic5`, custom sets
            absent with or present without the type `custom`.
    """
    if x.ndim < 2:
        raise ValueError(f"x of shape {tuple(x.shape)}: expected at least two axes")
    coefficients = tuple(_coefficients(steps, coefficient_type, custom_coefficient_sets))
    factor: Tensor = _Iterate.apply(x, coefficients, eps)  # type: ignore[no-untyped-call]
    return factor


def power_of_two(x: Tensor, dim: tuple[int, ...] = (-2, -1)) -> Tensor:
    """The largest power of two that is not above the largest absolute entry over `dim`, 1 where all are zero.

    To divide by it is exact. The result keeps the axes of `x`, those of `dim` with a length of 1.
    """
    largest = torch.linalg.vector_norm(x, math.inf, dim=dim, keepdim=True)
    mantissa, _ = torch.frexp(largest.to(torch.promote_types(x.dtype, torch.float32)))  # in [0.5, 1)
    return torch.where(largest == 0, 1.0, largest / (2 * mantissa)).to(x.dtype)


class _Iterate(torch.autograd.Function):
    """The iterations. Under `vmap` a trial is one more leading axis: torch's own rule would take `baddbmm` apart."""

    @staticmethod
    def forward(x: Tensor, coefficients: Sequence[Coefficients], eps: float) -> Tensor:
        shape, tall = x.shape, x.shape[-2] > x.shape[-1]
        x = x.flatten(0, -3) if x.ndim > 3 else x
        x = x.mT if tall else x
        x = x / power_of_two(x)
        x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp_min(eps)
        multiply_add = torch.addmm if x.ndim == 2 else torch.baddbmm
        for a, b, c in coefficients:
            gram = x @ x.mT
            polynomial = multiply_add(gram, gram, gram, beta=b, alpha=c) if c != 0 else b * gram
            x = multiply_add(x, polynomial, x, beta=a)
        return (x.mT if tall else x).reshape(shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept: an update is never differentiated."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, ...], x: Tensor, coefficients: Sequence[Coefficients], eps: float
    ) -> tuple[Tensor, int]:
        return _Iterate.apply(x.movedim(in_dims[0], 0), coefficients, eps), 0  # type: ignore[no-untyped-call]


def check_coefficients(
    steps: int, coefficient_type: str, custom_coefficient_sets: Sequence[Coefficients] | None = None
) -> None:
    """Raises ValueError where `newton_schulz` would refuse these arguments."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise OptionError("steps", steps, "expected a whole number of at least 1")
    if coefficient_type not in COEFFICIENT_TYPES:
        raise OptionError("coefficient_type", coefficient_type, f"expected one of {', '.join(COEFFICIENT_TYPES)}")
    if coefficient_type == "cubic5" and steps != len(CUBIC5):
        raise OptionError("steps", steps, f"coefficient_type='cubic5' is for exactly {len(CUBIC5)} steps")
    if (coefficient_type == "custom") != bool(custom_coefficient_sets):
        raise ValueError("custom_coefficient_sets: expected with coefficient_type='custom', and only then")


def _coefficients(
    steps: int, coefficient_type: str, custom_coefficient_sets: Sequence[Coefficients] | None
) -> Iterator[Coefficients]:
    check_coefficients(steps, coefficient_type, custom_coefficient_sets)
    if coefficient_type == "cubic5":
        return iter(CUBIC5)
    if coefficient_type in LAST_REPEATED:
        sets = LAST_REPEATED[coefficient_type]
        return islice(chain(sets, repeat(sets[-1])), steps)
    return islice(cycle(custom_coefficient_sets or CYCLED[coefficient_type]), steps)
