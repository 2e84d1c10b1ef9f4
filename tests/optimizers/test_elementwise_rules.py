"""Every element-wise rule against a float64 reference written from its formula in NumPy, one update after the other."""

import math

import numpy as np
import pytest
import torch

from optimizers.adam import Adam, AdamW
from optimizers.ademamix import AdEMAMix, SimplifiedAdEMAMix
from optimizers.laprop import LaProp
from optimizers.lion import Lion
from optimizers.madam import MAdam
from optimizers.qhadamw import QHAdamW
from optimizers.signum import Signum

NUM_STEPS = 7
SETTINGS = [
    pytest.param((3, 5), 1.0, torch.float64, 1e-12, id="matrix f64"),
    pytest.param((), 1e-18, torch.float32, 2e-5, id="tiny scalar f32"),
    pytest.param((2, 3, 4), 1e18, torch.float32, 2e-5, id="huge tensor f32"),
]


def adam(grads, betas, eps, correct_bias=True, nesterov=False):
    (b1, b2), m, v = betas, 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        c1, c1_next, c2 = (1 - b1**t, 1 - b1 ** (t + 1), 1 - b2**t) if correct_bias else (1.0, 1.0, 1.0)
        numerator = b1 * m / c1_next + (1 - b1) * g / c1 if nesterov else m / c1
        yield numerator / (np.sqrt(v / c2) + eps)


def madam(grads, betas, correct_bias=True, scale_log2=0):
    (b1, b2), m, v, root = betas, 0.0, 0.0, math.sqrt(2.0**scale_log2)
    for t, g in enumerate(grads, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * (root * g) ** 2
        c1, c2 = (1 - b1**t, 1 - b2**t) if correct_bias else (1.0, 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            yield np.where(m == 0, 0.0, root * (m / c1) / np.sqrt(v / c2))


def half_life_linear(t, num_steps, start, end):
    def h(beta):
        return math.log(0.5) / math.log(beta + 1e-8) - 1

    if num_steps is None or t >= num_steps:
        return end
    return 0.5 ** (1 / ((1 - t / num_steps) * h(start) + t / num_steps * h(end) + 1))


def ademamix(grads, betas, eps, alpha, num_beta=None, num_alpha=None, correct_bias=True):
    (b1, b2, b3), m1, m2, v = betas, 0.0, 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        slow = half_life_linear(t, num_beta, b1, b3)
        alpha_t = alpha if num_alpha is None or t >= num_alpha else t / num_alpha * alpha
        m1 = b1 * m1 + (1 - b1) * g
        m2 = slow * m2 + (1 - slow) * g
        v = b2 * v + (1 - b2) * g**2
        c1, c2 = (1 - b1**t, 1 - b2**t) if correct_bias else (1.0, 1.0)
        yield (m1 / c1 + alpha_t * m2) / (np.sqrt(v / c2) + eps)


def sim_ademamix(grads, betas, eps, alpha, min_beta, num_beta=None, correct_bias=True):
    (b1, b2), m, v = betas, 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        beta = half_life_linear(t, num_beta, min_beta, b1)
        m = beta * m + g
        v = b2 * v + (1 - b2) * g**2
        c1, c2 = ((1 - beta**t) / (1 - beta), 1 - b2**t) if correct_bias else (1.0, 1.0)
        yield (alpha * g + m / c1) / (np.sqrt(v / c2) + eps)


def laprop(grads, betas, eps, correct_bias=True):
    (b1, b2), m, v = betas, 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        v = b2 * v + (1 - b2) * g**2
        c1, c2 = (1 - b1**t, 1 - b2**t) if correct_bias else (1.0, 1.0)
        m = b1 * m + (1 - b1) * g / (np.sqrt(v / c2) + eps)
        yield m / c1


def lion(grads, betas):
    (b1, b2), m = betas, 0.0
    for g in grads:
        yield np.sign(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * g


def signum(grads, momentum, nesterov=False, correct_bias=True, scale=1.0):
    beta, m = momentum, 0.0
    for t, g in enumerate(grads, start=1):
        m = beta * m + (1 - beta) * g
        c, c_next = (1 - beta**t, 1 - beta ** (t + 1)) if correct_bias else (1.0, 1.0)
        yield scale * np.sign(beta * m / c_next + (1 - beta) * g / c if nesterov else m / c)


def qhadam(grads, betas, nus, eps):
    (b1, b2), (n1, n2), m, v = betas, nus, 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        mean, square = m / (1 - b1**t), v / (1 - b2**t)
        yield ((1 - n1) * g + n1 * mean) / (np.sqrt((1 - n2) * g**2 + n2 * square) + eps)


B = (0.85, 0.97)
B3 = (0.85, 0.97, 0.993)
CASES = {
    "adam": (Adam, {"betas": B, "eps": 1e-8}, lambda g: adam(g, B, 1e-8)),
    "adam large eps": (Adam, {"betas": B, "eps": 0.1}, lambda g: adam(g, B, 0.1)),
    "adam raw": (Adam, {"betas": B, "eps": 1e-8, "correct_bias": False}, lambda g: adam(g, B, 1e-8, False)),
    "adam nesterov": (Adam, {"betas": B, "eps": 1e-8, "nesterov": True}, lambda g: adam(g, B, 1e-8, True, True)),
    "adam nesterov raw": (
        AdamW,
        {"betas": B, "weight_decay": 0.0, "correct_bias": False, "nesterov": True},
        lambda g: adam(g, B, 1e-8, False, True),
    ),
    "ademamix": (AdEMAMix, {"betas": B3, "alpha": 3.0}, lambda g: ademamix(g, B3, 1e-8, 3.0)),
    "ademamix raw": (
        AdEMAMix,
        {"betas": B3, "correct_bias": False},
        lambda g: ademamix(g, B3, 1e-8, 2.0, correct_bias=False),
    ),
    # step 7 is beyond both schedules, step 5 the end of alpha's, step 4 the end of beta's, step 3 within both
    "ademamix schedules": (
        AdEMAMix,
        {"betas": B3, "alpha": 3.0, "num_beta_slow_warmup_steps": 4, "num_alpha_warmup_steps": 5},
        lambda g: ademamix(g, B3, 1e-8, 3.0, 4, 5),
    ),
    "sim_ademamix": (
        SimplifiedAdEMAMix,
        {"betas": B, "alpha": 3.0},
        lambda g: sim_ademamix(g, B, 1e-8, 3.0, 0.9),
    ),
    "sim_ademamix raw": (
        SimplifiedAdEMAMix,
        {"betas": B, "correct_bias": False},
        lambda g: sim_ademamix(g, B, 1e-8, 2.0, 0.9, correct_bias=False),
    ),
    "sim_ademamix schedule": (
        SimplifiedAdEMAMix,
        {"betas": (0.99, 0.97), "min_beta_fast": 0.4, "num_beta_fast_warmup_steps": 5},
        lambda g: sim_ademamix(g, (0.99, 0.97), 1e-8, 2.0, 0.4, 5),
    ),
    "sim_ademamix schedule from zero": (
        SimplifiedAdEMAMix,
        {"betas": (0.99, 0.97), "min_beta_fast": 0.0, "num_beta_fast_warmup_steps": 3},
        lambda g: sim_ademamix(g, (0.99, 0.97), 1e-8, 2.0, 0.0, 3),
    ),
    "laprop": (LaProp, {"betas": B, "eps": 1e-8}, lambda g: laprop(g, B, 1e-8)),
    "laprop raw": (LaProp, {"betas": B, "correct_bias": False}, lambda g: laprop(g, B, 1e-8, False)),
    "lion": (Lion, {"betas": B, "weight_decay": 0.0}, lambda g: lion(g, B)),
    "signum": (Signum, {"momentum": 0.85}, lambda g: signum(g, 0.85)),
    "signum raw": (Signum, {"momentum": 0.85, "correct_bias": False}, lambda g: signum(g, 0.85, False, False)),
    "signum nesterov": (Signum, {"momentum": 0.85, "nesterov": True}, lambda g: signum(g, 0.85, True)),
    "signum nesterov raw": (
        Signum,
        {"momentum": 0.85, "nesterov": True, "correct_bias": False},
        lambda g: signum(g, 0.85, True, False),
    ),
    "qhadamw": (
        QHAdamW,
        {"betas": B, "nus": (0.7, 0.9), "weight_decay": 0.0},
        lambda g: qhadam(g, B, (0.7, 0.9), 1e-8),
    ),
}


def make_grads(shape, scale, dtype):
    """Gradients that are exactly representable in `dtype`, as float64 arrays."""
    generator = torch.Generator().manual_seed(0)
    grads = [torch.randn(shape, generator=generator, dtype=torch.float64) * scale for _ in range(NUM_STEPS)]
    return [grad.to(dtype).double().numpy() for grad in grads]


def run(optimizer_class, options, grads, dtype, start=0.0, lr=0.5):
    """The parameter after every step, as float64 arrays."""
    param = torch.nn.Parameter(torch.full(np.shape(grads[0]), start, dtype=dtype))
    optimizer = optimizer_class([param], lr=lr, **options)
    history = []
    for grad in grads:
        param.grad = torch.as_tensor(grad).to(dtype)
        optimizer.step()
        history.append(param.detach().double().numpy().copy())
    return history


def assert_follows(history, updates, lr, rtol):
    expected = np.zeros_like(history[0])
    for param, update in zip(history, updates, strict=True):
        expected = expected - lr * update
        np.testing.assert_allclose(param, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("shape", "scale", "dtype", "rtol"), SETTINGS)
def test_rule_follows_its_formula(case, shape, scale, dtype, rtol):
    optimizer_class, options, reference = CASES[case]
    grads = make_grads(shape, scale, dtype)
    assert_follows(run(optimizer_class, options, grads, dtype), reference(grads), 0.5, rtol)


@pytest.mark.parametrize(("scale", "scale_log2"), [(1.0, 0), (1.0, 64), (1e-18, 120), (1e18, -120), (1e-25, 166)])
@pytest.mark.parametrize("correct_bias", [True, False])
def test_madam_follows_its_formula(scale, scale_log2, correct_bias):
    options = {"betas": B, "weight_decay": 0.0, "correct_bias": correct_bias, "scale_log2": scale_log2}
    grads = make_grads((3, 5), scale, torch.float32)
    reference = madam(grads, B, correct_bias, scale_log2)
    assert_follows(run(MAdam, options, grads, torch.float32), reference, 0.5, 2e-5)


@pytest.mark.parametrize("shape", [(3, 5), (1, 4)])
def test_signum_scales_matrices_by_their_shape(shape):
    grads = make_grads(shape, 1.0, torch.float64)
    history = run(Signum, {"momentum": 0.8, "use_shape_scaling": True}, grads, torch.float64)
    assert_follows(history, signum(grads, 0.8, scale=2 / sum(shape)), 0.5, 1e-12)


def test_signum_leaves_vectors_unscaled():
    grads = make_grads((6,), 1.0, torch.float64)
    plain = run(Signum, {"use_shape_scaling": False}, grads, torch.float64)
    np.testing.assert_array_equal(run(Signum, {"use_shape_scaling": True}, grads, torch.float64), plain)


DECAYS = {
    "decoupled": lambda p, lr, wd: p - lr * wd * p,
    "independent": lambda p, lr, wd: p - wd * p,
    "palm": lambda p, lr, wd: p - lr**2 * wd * p,
    "l2": lambda p, lr, wd: p,
}


@pytest.mark.parametrize(
    "optimizer_class", [Adam, AdamW, MAdam, AdEMAMix, SimplifiedAdEMAMix, LaProp, Lion, Signum, QHAdamW]
)
@pytest.mark.parametrize("method", DECAYS)
def test_decay_comes_before_the_update_and_the_update_sees_it_with_l2_only(optimizer_class, method):
    lr, weight_decay, start = 0.3, 0.2, 1.7
    grads = make_grads((5,), 1.0, torch.float64)[:1]
    options = {"weight_decay": weight_decay, "weight_decay_method": method}
    (decayed,) = run(optimizer_class, options, grads, torch.float64, start, lr)
    seen = [grads[0] + weight_decay * start] if method == "l2" else grads
    (plain,) = run(optimizer_class, {"weight_decay": 0.0}, seen, torch.float64, 0.0, lr)
    np.testing.assert_allclose(decayed, DECAYS[method](np.full(5, start), lr, weight_decay) + plain, rtol=1e-12)


def test_qhadamw_decays_the_old_parameter():
    lr, weight_decay, start = 0.3, 0.2, 1.7
    grads = make_grads((5,), 1.0, torch.float64)[:1]
    (param,) = run(QHAdamW, {"weight_decay": weight_decay}, grads, torch.float64, start, lr)
    (update,) = qhadam(grads, (0.995, 0.999), (0.7, 1.0), 1e-8)
    np.testing.assert_allclose(param, start - lr * (update + weight_decay * start), rtol=1e-12)


def assert_bitwise(history, expected):
    for param, other in zip(history, expected, strict=True):
        np.testing.assert_array_equal(param, other)


def test_qhadamw_with_nu_of_one_is_adamw_in_every_bit():
    grads = make_grads((3, 5), 1.0, torch.float32)
    adamw = run(AdamW, {"betas": B, "weight_decay": 0.1}, grads, torch.float32, 1.0)
    qhadamw = run(QHAdamW, {"betas": B, "nus": (1.0, 1.0), "weight_decay": 0.1}, grads, torch.float32, 1.0)
    assert_bitwise(qhadamw, adamw)


@pytest.mark.parametrize("correct_bias", [True, False])
def test_ademamix_with_alpha_of_zero_is_adam_in_every_bit(correct_bias):
    grads = make_grads((3, 5), 1.0, torch.float32)
    plain = run(Adam, {"betas": B, "correct_bias": correct_bias}, grads, torch.float32)
    history = run(AdEMAMix, {"betas": B3, "alpha": 0.0, "correct_bias": correct_bias}, grads, torch.float32)
    assert_bitwise(history, plain)


def test_laprop_without_momentum_is_rmsprop_with_bias_correction():
    grads = make_grads((3, 5), 1.0, torch.float64)
    history = run(LaProp, {"betas": (0.0, 0.9), "eps": 0.01}, grads, torch.float64)
    squares = [sum(0.1 * 0.9 ** (t - i) * grads[i] ** 2 for i in range(t + 1)) for t in range(NUM_STEPS)]
    updates = [
        g / (np.sqrt(v / (1 - 0.9 ** (t + 1))) + 0.01) for t, (g, v) in enumerate(zip(grads, squares, strict=True))
    ]
    assert_follows(history, updates, 0.5, 1e-12)


@pytest.mark.parametrize("scale_log2", [0, 8, 14, 40])
@pytest.mark.parametrize("correct_bias", [True, False])
def test_madam_is_adam_without_eps_in_every_bit(scale_log2, correct_bias):
    grads = make_grads((35,), 1.0, torch.float32)
    plain = run(Adam, {"betas": B, "eps": 0.0, "correct_bias": correct_bias}, grads, torch.float32)
    options = {"betas": B, "weight_decay": 0.0, "correct_bias": correct_bias, "scale_log2": scale_log2}
    assert_bitwise(run(MAdam, options, grads, torch.float32), plain)
