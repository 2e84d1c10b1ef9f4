"""Newton-Schulz against a float64 iteration written out in NumPy, and against the polar factor of an SVD."""

import numpy as np
import pytest
import torch

from optimizers.newton_schulz import COEFFICIENT_TYPES, newton_schulz, power_of_two

SIMPLE = [(3.4445, -4.7750, 2.0315)]
COEFFICIENTS = {
    "simple": SIMPLE * 12,
    "quintic": [
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ]
    * 3,
    "polar_express": [
        (8.2051, -22.9019, 16.4607),
        (4.0664, -2.8612, 0.5184),
        (3.9096, -2.8234, 0.5250),
        (3.2856, -2.4153, 0.4853),
        (2.2779, -1.6198, 0.3985),
        (1.8726, -1.2307, 0.3585),
        (1.8564, -1.2132, 0.3568),
        *[(1.8750, -1.2500, 0.3750)] * 5,
    ],
    "cans": [
        (8.4703, -25.1081, 18.6293),
        (4.1828, -3.1087, 0.5806),
        (3.9619, -2.9541, 0.5630),
        (3.2866, -2.4647, 0.5074),
        *[(2.2737, -1.6447, 0.4162)] * 8,
    ],
    "aol": [
        (4.0098, -7.0585, 2.4635),
        (3.4585, -5.5479, 2.5959),
        (2.7573, -3.2939, 1.4254),
        (2.7215, -3.0494, 1.3169),
    ]
    * 3,
    "deepseekv4": SIMPLE * 8 + [(2.0, -1.5, 0.5)] * 4,
    "cubic5": [
        (3.3656576, -3.3420992, 0),
        (2.5744352, -1.4957376, 0),
        (2.5368962, -1.4312570, 0),
        (2.4418906, -1.2764040, 0),
        (2.2230472, -0.9630650, 0),
    ],
    "custom": [(2.0, -1.5, 0.5), (1.5, -0.5, 0.0)] * 6,
}
SETTINGS = [
    pytest.param((3, 7), 12, torch.float64, 1e-10, id="wide f64"),
    pytest.param((9, 2), 5, torch.float32, 5e-3, id="tall f32"),
    pytest.param((2, 3, 4, 4), 1, torch.float64, 1e-10, id="square stack f64"),
    pytest.param((5, 1), 5, torch.float64, 1e-10, id="column f64"),
]


def reference(x, coefficients):
    """The iteration on X itself, whatever its shape: X X^T X is the same on the transposed side."""
    x = x / np.linalg.norm(x, axis=(-2, -1), keepdims=True)
    for a, b, c in coefficients:
        gram = x @ np.swapaxes(x, -2, -1)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def matrix(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def singular_values(x):
    return torch.linalg.svdvals(x.double())


def test_every_type_is_tested():
    assert set(COEFFICIENTS) == set(COEFFICIENT_TYPES)


@pytest.mark.parametrize("coefficient_type", COEFFICIENTS)
@pytest.mark.parametrize(("shape", "steps", "dtype", "tolerance"), SETTINGS)
def test_every_step_uses_its_coefficients(coefficient_type, shape, steps, dtype, tolerance):
    steps = 5 if coefficient_type == "cubic5" else steps
    custom = COEFFICIENTS["custom"][:2] if coefficient_type == "custom" else None
    x = matrix(*shape, dtype=dtype)
    expected = reference(x.double().numpy(), COEFFICIENTS[coefficient_type][:steps])
    actual = newton_schulz(x, steps, coefficient_type, custom)
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual.double().numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("coefficient_type", "steps"), [("polar_express", 12), ("deepseekv4", 14)])
@pytest.mark.parametrize("shape", [(6, 6), (8, 3), (3, 8)], ids=str)
def test_converging_coefficients_reach_the_polar_factor(coefficient_type, steps, shape):
    x = matrix(*shape)
    left, _, right = torch.linalg.svd(x, full_matrices=False)
    actual = newton_schulz(x, steps, coefficient_type)
    torch.testing.assert_close(actual, left @ right, rtol=0, atol=2e-4)  # coefficients of 4 decimals


@pytest.mark.parametrize("coefficient_type", [name for name in COEFFICIENTS if name != "custom"])
def test_every_type_brings_singular_values_near_one_and_keeps_singular_vectors(coefficient_type):
    steps = {"polar_express": 8, "deepseekv4": 10, "aol": 4}.get(coefficient_type, 5)
    x = matrix(12, 20)
    actual = newton_schulz(x, steps, coefficient_type)
    values = singular_values(actual)
    assert values.min() > 0.6
    assert values.max() < 1.35
    left, _, right = torch.linalg.svd(x, full_matrices=False)
    rotated = left.mT @ actual @ right.mT
    torch.testing.assert_close(rotated, torch.diag(rotated.diagonal()), rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("exponent", [-100, -60, -20, 1, 60, 110])
def test_powers_of_two_in_the_input_leave_the_result_bit_identical(dtype, exponent):
    x = matrix(3, 5, 7, dtype=dtype) * torch.tensor([1.0, 2.0**-5, 2.0**3])[:, None, None].to(dtype)
    assert torch.equal(newton_schulz(x * 2.0**exponent, 5), newton_schulz(x, 5))


def test_the_largest_power_of_two_is_exact_over_the_whole_range():
    powers = 2.0 ** torch.arange(-149, 128, dtype=torch.float64)
    for factor in (1.0, 1.5, 2 - 2.0**-23):
        x = (factor * powers).float()[:, None, None]
        expected = powers if factor == 1.0 else torch.where(x.flatten() < 2.0**-125, torch.nan, powers)
        actual = power_of_two(x).flatten().double()
        assert torch.equal(actual[expected.isfinite()], expected[expected.isfinite()])
        assert ((x / power_of_two(x)).flatten() < 2).all()


def test_eps_bounds_the_norm_from_below():
    x = torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(newton_schulz(x, 1, "simple", eps=1e6), 3.4445e-6 * x, rtol=1e-9, atol=0)


@pytest.mark.parametrize("shape", [(4, 4), (2, 6), (6, 2), (3, 2, 6)], ids=str)
def test_zero_stays_zero(shape):
    assert torch.equal(newton_schulz(torch.zeros(shape), 5), torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_transposing_the_input_transposes_the_output(dtype):
    x = matrix(4, 9, dtype=dtype)
    assert torch.equal(newton_schulz(x.mT, 5), newton_schulz(x, 5).mT)


def test_input_is_left_alone_and_a_stack_is_one_matrix_after_the_other():
    x = matrix(3, 4, 6)
    before = x.clone()
    stacked = newton_schulz(x, 5)
    assert torch.equal(x, before)
    torch.testing.assert_close(stacked, torch.stack([newton_schulz(one, 5) for one in x]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3), 5), "two axes"),
        ((torch.zeros(()), 5), "two axes"),
        ((torch.zeros(3, 3), 0), "steps=0"),
        ((torch.zeros(3, 3), 5, "quartic"), "coefficient_type='quartic': expected one of simple, "),
        ((torch.zeros(3, 3), 4, "cubic5"), "exactly 5 steps"),
        ((torch.zeros(3, 3), 5, "custom"), "custom_coefficient_sets"),
        ((torch.zeros(3, 3), 5, "simple", [(1.0, 0.0, 0.0)]), "custom_coefficient_sets"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        newton_schulz(*arguments)
