"""Muon, AdaMuon, NorMuon and NAMO against float64 references written from their formulas in NumPy."""

import math

import numpy as np
import pytest
import torch

from optimizers.adaptive_muon import MOMENT2_METHODS, AdaptiveMuon
from optimizers.muon import MATMUL_PRECISIONS, SCALE_MODES, Muon

QUINTIC = [
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
]
SHAPES = [(4, 4), (3, 7), (9, 2), (1, 5), (5, 1)]
NUM_STEPS = 6
LR = 0.5


def orthogonalize(x):
    x = x / np.linalg.norm(x)
    for a, b, c in QUINTIC:
        x = a * x + b * x @ x.T @ x + c * x @ x.T @ x @ x.T @ x
    return x


def scale_of(shape, mode):
    rows, cols = shape
    return {
        "spectral": math.sqrt(max(rows, cols)),
        "shape_scaling": math.sqrt(max(1, rows / cols)),
        "unit_rms_norm": math.sqrt(rows / cols),
    }[mode]


def directions(grads, beta, nesterov):
    m = 0.0
    for g in grads:
        m = beta * m + (1 - beta) * g
        yield beta * m + (1 - beta) * g if nesterov else m


def muon(grads, momentum, nesterov=False, scale_mode="spectral", factor=1.0):
    for d in directions(grads, momentum, nesterov):
        yield orthogonalize(d) * scale_of(d.shape, scale_mode) * factor


def adamuon(grads, momentum, beta2, eps, nesterov=False):
    v = 0.0
    for d in directions(grads, momentum, nesterov):
        o = orthogonalize(d)
        v = beta2 * v + (1 - beta2) * o**2
        yield o / (np.sqrt(v) + eps) * scale_of(d.shape, "spectral")


def normuon(grads, momentum, beta2, eps, nesterov=False):
    v = 0.0
    for d in directions(grads, momentum, nesterov):
        o = orthogonalize(d)
        v = beta2 * v + (1 - beta2) * (o**2).mean(1 if o.shape[0] >= o.shape[1] else 0, keepdims=True)
        u = o / np.sqrt(np.maximum(v, eps))
        yield u * np.linalg.norm(o) / max(np.linalg.norm(u), eps) * scale_of(d.shape, "spectral")


def namo(grads, momentum, beta2, eps, nesterov=False):
    v = 0.0
    for g, d in zip(grads, directions(grads, momentum, nesterov), strict=True):
        v = beta2 * v + (1 - beta2) * (g**2).sum()
        yield orthogonalize(d) * np.linalg.norm(d) / (math.sqrt(v) + eps) * scale_of(d.shape, "spectral")


REFERENCES = {"adamuon": adamuon, "normuon": normuon, "namo": namo}


def make_grads(shape, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    grads = [torch.randn(shape, generator=generator, dtype=torch.float64) * scale for _ in range(NUM_STEPS)]
    return [grad.to(dtype).double().numpy() for grad in grads]


def run(optimizer_class, grads, dtype=torch.float64, start=0.0, **options):
    """The parameter after every step, and the optimizer's state of it."""
    param = torch.nn.Parameter(torch.full(grads[0].shape, start, dtype=dtype))
    options = {"fp32_matmul_prec": "highest", "weight_decay": 0.0, "lr": LR, **options}
    optimizer = optimizer_class([param], **options)
    history = []
    for grad in grads:
        param.grad = torch.from_numpy(grad).to(dtype)
        optimizer.step()
        history.append(param.detach().double().numpy().copy())
    return history, optimizer.state[param]


def assert_follows(history, updates, tolerance):
    expected = -LR * np.cumsum(list(updates), axis=0)
    np.testing.assert_allclose(history, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("scale_mode", SCALE_MODES)
def test_muon_follows_its_formula(shape, nesterov, scale_mode):
    grads = make_grads(shape)
    history, _ = run(Muon, grads, momentum=0.8, nesterov=nesterov, scale_mode=scale_mode, extra_scale_factor=0.3)
    assert_follows(history, muon(grads, 0.8, nesterov, scale_mode, 0.3), 1e-10)


@pytest.mark.parametrize("method", MOMENT2_METHODS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_adaptive_muon_follows_its_formula(method, shape, nesterov, eps):
    grads = make_grads(shape)
    options = {"momentum": 0.8, "beta2": 0.9, "eps": eps, "nesterov": nesterov}
    history, _ = run(AdaptiveMuon, grads, moment2_method=method, **options)
    assert_follows(history, REFERENCES[method](grads, **options), 1e-9)


@pytest.mark.parametrize("method", MOMENT2_METHODS)
@pytest.mark.parametrize("scale_mode", SCALE_MODES)
def test_adaptive_muon_scales_as_muon_does(method, scale_mode):
    grads = make_grads((3, 7))
    options = {"momentum": 0.8, "moment2_method": method}
    history, _ = run(AdaptiveMuon, grads, scale_mode=scale_mode, extra_scale_factor=0.3, **options)
    factor = 0.3 * scale_of((3, 7), scale_mode) / scale_of((3, 7), "spectral")
    updates = REFERENCES[method](grads, 0.8, 0.95, 1e-8)
    assert_follows(history, (factor * update for update in updates), 1e-9)


@pytest.mark.parametrize("method", ["muon", *MOMENT2_METHODS])
@pytest.mark.parametrize("precision", MATMUL_PRECISIONS)
@pytest.mark.parametrize("exponent", [-100, -60, -20, 60])
def test_powers_of_two_in_the_gradient_leave_every_update_bit_identical(method, precision, exponent):
    optimizer_class, options = (Muon, {}) if method == "muon" else (AdaptiveMuon, {"moment2_method": method})
    options |= {"fp32_matmul_prec": precision} | ({"eps": 0.0} if method == "namo" else {})
    grads = make_grads((5, 8), dtype=torch.float32)
    history, _ = run(optimizer_class, grads, torch.float32, **options)
    scaled, _ = run(optimizer_class, [grad * 2.0**exponent for grad in grads], torch.float32, **options)
    np.testing.assert_array_equal(scaled, history)


def test_namo_leaves_a_matrix_alone_that_never_had_a_gradient():
    history, _ = run(AdaptiveMuon, [np.zeros((3, 4))] * 2, torch.float32, 1.5, moment2_method="namo", eps=0.0)
    np.testing.assert_array_equal(history, np.full((2, 3, 4), 1.5))


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e15])
def test_muon_in_float32_follows_its_formula_for_tiny_and_huge_gradients(scale):
    grads = make_grads((5, 8), scale, torch.float32)
    history, _ = run(Muon, grads, torch.float32, momentum=0.8)
    assert_follows(history, muon(grads, 0.8), 1e-4)


def test_medium_precision_iterates_in_bfloat16():
    grads = make_grads((16, 24), dtype=torch.float32)
    history, _ = run(Muon, grads, torch.float32, momentum=0.8, fp32_matmul_prec="medium")
    expected = -LR * np.cumsum(list(muon(grads, 0.8)), axis=0)
    error = np.linalg.norm(history - expected) / np.linalg.norm(expected)
    assert 1e-4 < error < 3e-2


@pytest.mark.parametrize(
    ("method", "shape", "moment2_shape"),
    [
        ("adamuon", (6, 4), (6, 4)),
        ("normuon", (6, 4), (6, 1)),
        ("normuon", (4, 6), (1, 6)),
        ("normuon", (5, 5), (5, 1)),
        ("namo", (6, 4), (1,)),
    ],
)
@pytest.mark.parametrize("num_params", [1, 3])
def test_second_moment_has_its_shape_alone_and_stacked(method, shape, moment2_shape, num_params):
    params = [torch.nn.Parameter(torch.zeros(shape)) for _ in range(num_params)]
    optimizer = AdaptiveMuon(params, moment2_method=method)
    for param in params:
        param.grad = torch.randn(shape)
    optimizer.step()
    for param in params:
        assert optimizer.state[param]["moment2_buffer"].shape == moment2_shape
        assert optimizer.state[param]["momentum_buffer"].shape == shape


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_normuon_keeps_the_norm_of_the_orthogonalized_update(shape):
    grads = make_grads(shape)[:1]
    (adapted,), _ = run(AdaptiveMuon, grads, momentum=0.8, moment2_method="normuon")
    (plain,), _ = run(Muon, grads, momentum=0.8)
    np.testing.assert_allclose(np.linalg.norm(adapted), np.linalg.norm(plain), rtol=1e-12)


def test_namo_slows_down_where_gradients_are_noise():
    noise, signal = make_grads((4, 6)), [make_grads((4, 6))[0]] * NUM_STEPS
    moved = []
    for grads in (noise, signal):
        history, _ = run(AdaptiveMuon, grads, momentum=0.8, moment2_method="namo")
        moved.append(np.linalg.norm(history[-1] - history[-2]))
    assert moved[0] < moved[1]


@pytest.mark.parametrize("scale_mode", ["spectral"])
@pytest.mark.parametrize("method", [None, *MOMENT2_METHODS])
def test_transposed_gradients_give_transposed_updates(method, scale_mode):
    """Holds for a scale that is symmetric in rows and columns; NorMuon's row or column follows the longer axis."""
    optimizer_class, options = (Muon, {}) if method is None else (AdaptiveMuon, {"moment2_method": method})
    grads = make_grads((4, 7))
    history, _ = run(optimizer_class, grads, scale_mode=scale_mode, **options)
    transposed, _ = run(optimizer_class, [np.ascontiguousarray(g.T) for g in grads], scale_mode=scale_mode, **options)
    np.testing.assert_allclose([p.T for p in transposed], history, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["muon", "adamuon", "normuon"])
def test_rotating_the_gradient_by_a_permutation_permutes_the_update(method):
    optimizer_class, options = (Muon, {}) if method == "muon" else (AdaptiveMuon, {"moment2_method": method})
    grads = make_grads((4, 7))
    rows = [2, 0, 3, 1]
    history, _ = run(optimizer_class, grads, **options)
    permuted, _ = run(optimizer_class, [np.ascontiguousarray(g[rows]) for g in grads], **options)
    np.testing.assert_allclose(permuted, [p[rows] for p in history], rtol=1e-9, atol=1e-9)


DECAYS = {
    "decoupled": lambda p, wd: p - LR * wd * p,
    "independent": lambda p, wd: p - wd * p,
    "palm": lambda p, wd: p - LR**2 * wd * p,
    "l2": lambda p, wd: p,
}


@pytest.mark.parametrize("method", ["muon", *MOMENT2_METHODS])
@pytest.mark.parametrize("decay", DECAYS)
def test_decay_comes_before_the_update(method, decay):
    if (method, decay) == ("namo", "l2"):
        return  # refused, see below
    optimizer_class, options = (Muon, {}) if method == "muon" else (AdaptiveMuon, {"moment2_method": method})
    (grad,), start, weight_decay = make_grads((3, 4))[:1], 1.7, 0.2
    (actual,), _ = run(
        optimizer_class, [grad], start=start, weight_decay=weight_decay, weight_decay_method=decay, **options
    )
    seen = grad + weight_decay * start if decay == "l2" else grad
    (plain,), _ = run(optimizer_class, [seen], **options)
    np.testing.assert_allclose(actual, DECAYS[decay](np.full((3, 4), start), weight_decay) + plain, rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"lr": -0.1}, "lr=-0.1"),
        ({"weight_decay": -1}, "weight_decay=-1"),
        ({"num_ns_steps": 0}, "num_ns_steps=0"),
        ({"coefficient_type": "cubic5", "num_ns_steps": 4}, "exactly 5 steps"),
        ({"coefficient_type": "custom"}, "coefficient_type='custom': expected one of simple, "),
        ({"coefficient_type": "nope"}, "coefficient_type='nope': expected one of"),
        ({"scale_mode": "nope"}, "scale_mode='nope': expected one of " + ", ".join(SCALE_MODES)),
        ({"fp32_matmul_prec": "high"}, "fp32_matmul_prec='high': expected one of " + ", ".join(MATMUL_PRECISIONS)),
        ({"weight_decay_method": "nope"}, "weight_decay_method='nope': expected one of"),
    ],
)
@pytest.mark.parametrize("optimizer_class", [Muon, AdaptiveMuon])
def test_bad_hyperparameters_are_refused(optimizer_class, options, message):
    with pytest.raises(ValueError, match=message):
        optimizer_class([torch.nn.Parameter(torch.zeros(2, 2))], **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"moment2_method": "nope"}, "moment2_method='nope': expected one of " + ", ".join(MOMENT2_METHODS)),
        ({"beta2": 1.0}, "beta2=1.0"),
        ({"eps": -1e-8}, "eps=-1e-08"),
        ({"moment2_method": "namo", "weight_decay_method": "l2"}, "namo"),
    ],
)
def test_bad_hyperparameters_of_the_second_moment_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveMuon([torch.nn.Parameter(torch.zeros(2, 2))], **options)


@pytest.mark.parametrize("optimizer_class", [Muon, AdaptiveMuon])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (2, 3, 3, 3)], ids=str)
def test_parameters_that_are_no_matrices_are_refused(optimizer_class, shape):
    with pytest.raises(ValueError, match="matrices only"):
        optimizer_class([torch.nn.Parameter(torch.zeros(shape))])
