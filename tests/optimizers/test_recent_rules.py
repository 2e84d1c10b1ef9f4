"""SOAP, Scion, PolarGrad, ADOPT, MARS, Prodigy and LAMB against float64 references written from their formulas."""

import math

import numpy as np
import pytest
import torch

from optimizers.adam import Adam, calculate_adam_update
from optimizers.adopt import ADOPT
from optimizers.lamb import LAMB
from optimizers.mars import MARS
from optimizers.polargrad import PolarGrad
from optimizers.prodigy import Prodigy
from optimizers.rule import merge_groups
from optimizers.scion import Scion
from optimizers.soap import SOAP, calculate_soap_update, init_state

NUM_STEPS = 7
LR = 0.3
B = (0.85, 0.97)


def make_grads(shape, scale=1.0):
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).numpy() * scale for _ in range(NUM_STEPS)]


def run(optimizer_class, grads, start=0.0, lr=LR, **options):
    """The parameter before the first step and after every one, in float64."""
    param = torch.nn.Parameter(torch.full(np.shape(grads[0]), start, dtype=torch.float64))
    optimizer = optimizer_class([param], lr=lr, **options)
    history = [param.detach().numpy().copy()]
    for grad in grads:
        param.grad = torch.as_tensor(grad)
        optimizer.step()
        history.append(param.detach().numpy().copy())
    return history


def adam_of(grads, betas, eps):
    (b1, b2), m, v = betas, 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        yield m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)


def assert_moves(history, updates, tolerance=1e-11, lr=LR):
    expected = history[0] - lr * np.cumsum(list(updates), axis=0)
    np.testing.assert_allclose(history[1:], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 4)], ids=str)
def test_adopt_follows_its_formula(shape):
    def updates(grads, m=0.0, v=None):
        for t, g in enumerate(grads):  # t = 0 is the extra gradient
            if t:
                bound = t**0.25
                m = B[0] * m + (1 - B[0]) * np.clip(g / np.maximum(np.sqrt(v), 0.2), -bound, bound)
            v = g**2 if v is None else B[1] * v + (1 - B[1]) * g**2
            yield m + 0 * g

    grads = make_grads(shape)
    assert_moves(run(ADOPT, grads, betas=B, eps=0.2), updates(grads))


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_mars_follows_its_formula_above_and_below_its_bound(scale):
    grads, corrected, last = make_grads((3, 5), scale), [], 0.0
    for g in grads:
        c = g + 0.3 * B[0] / (1 - B[0]) * (g - last)
        corrected.append(c / max(np.linalg.norm(c), 1.0))
        last = g
    assert (np.linalg.norm(corrected[0]) == pytest.approx(1.0)) == (scale == 1.0)
    assert_moves(run(MARS, grads, betas=B, gamma=0.3, eps=1e-3), adam_of(corrected, B, 1e-3))


@pytest.mark.parametrize("shape", [(), (6,), (3, 5)], ids=str)
def test_lamb_moves_in_proportion_to_the_parameter(shape):
    grads = make_grads(shape)
    history = run(LAMB, grads, start=1.7, betas=B, eps=1e-3, weight_decay=0.4)
    for before, after, adam in zip(history, history[1:], adam_of(grads, B, 1e-3), strict=False):
        r = adam + 0.4 * before
        np.testing.assert_allclose(after, before - LR * r * np.linalg.norm(before) / np.linalg.norm(r), rtol=1e-11)


def test_lamb_takes_adams_step_where_the_parameter_is_zero():
    grads = make_grads((3, 5))[:1]
    np.testing.assert_allclose(run(LAMB, grads, betas=B)[1], run(Adam, grads, betas=B, eps=1e-6)[1], rtol=1e-12)


def polar(matrix):
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return left @ right


def momenta(grads, beta):
    m = 0.0
    for g in grads:
        m = beta * m + (1 - beta) * g
        yield m


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (9, 2), (1, 5)], ids=str)
@pytest.mark.parametrize("nesterov", [False, True])
def test_polargrad_is_the_polar_factor_times_the_nuclear_norm(shape, nesterov):
    grads = make_grads(shape)
    history = run(PolarGrad, grads, momentum=0.8, nesterov=nesterov, fp32_matmul_prec="highest", num_ns_steps=20, lr=LR)
    directions = [0.8 * m + 0.2 * g if nesterov else m for m, g in zip(momenta(grads, 0.8), grads, strict=True)]
    assert_moves(history, (polar(d) * np.linalg.svd(d)[1].sum() for d in directions), 1e-3)


SCION = {
    "spectral": lambda m: polar(m) * math.sqrt(m.shape[0] / m.shape[1]),
    "sign": lambda m: np.sign(m) / m.shape[1],
    "rms": lambda m: m / np.sqrt(np.mean(m**2)),
}


@pytest.mark.parametrize(
    ("norm", "shape"),
    [("spectral", (3, 7)), ("spectral", (9, 2)), ("sign", (3, 7)), ("rms", (7,)), ("rms", ()), ("rms", (2, 3, 4))],
)
def test_scion_follows_its_formula(norm, shape):
    grads = make_grads(shape)
    precise = {"fp32_matmul_prec": "highest", "coefficient_type": "polar_express", "num_ns_steps": 20}
    history = run(Scion, grads, momentum=0.8, norm=norm, radius=3.0, **precise)
    updates = (3.0 * SCION[norm](m) for m in momenta(grads, 0.8))
    assert_moves(history, updates, 1e-3 if norm == "spectral" else 1e-12)


@pytest.mark.parametrize("norm", SCION)
def test_scion_steps_are_radius_times_lr_long_and_constrained_ones_stay_within_the_radius(norm):
    grads = make_grads((4, 6), 1e-9)
    history = run(Scion, grads * 30, momentum=0.8, weight_decay=1.0, norm=norm, radius=2.0, lr=0.1)
    length = {
        "spectral": lambda w: np.linalg.norm(w, 2) / math.sqrt(4 / 6),
        "sign": lambda w: np.abs(w).max() * 6,
        "rms": lambda w: np.sqrt(np.mean(w**2)),
    }[norm]
    assert length(history[1]) == pytest.approx(0.2, rel=0.3)
    assert max(map(length, history)) < 2.0 * (1.3 if norm == "spectral" else 1.001)  # Newton-Schulz overshoots


@pytest.mark.parametrize("norm", SCION)
def test_scion_does_not_see_the_size_of_gradients(norm):
    grads = make_grads((4, 6))
    np.testing.assert_array_equal(run(Scion, [g * 2.0**-300 for g in grads], norm=norm), run(Scion, grads, norm=norm))


def soap_reference(grads, betas, shampoo, eps, frequency):
    (b1, b2), m, v, grams, bases = betas, 0.0, 0.0, [0.0, 0.0], [None, None]
    for t, g in enumerate(grads):  # t = 0 only sets the bases
        if t:
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * (bases[0].T @ g @ bases[1]) ** 2
            u = bases[0].T @ m @ bases[1] / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
            yield bases[0] @ u @ bases[1].T
        else:
            yield np.zeros_like(g)
        for side, factor in enumerate((g, g.T)):
            grams[side] = shampoo * grams[side] + (1 - shampoo) * factor @ factor.T
            if t == 0:
                bases[side] = np.linalg.eigh(grams[side])[1]
            elif t % frequency == 0:
                order = np.argsort(-np.sum(bases[side] * (grams[side] @ bases[side]), axis=0))
                v = np.take(v, order, axis=side)
                shifted = grams[side] + 1e-6 * np.trace(grams[side]) / len(grams[side]) * np.eye(len(grams[side]))
                bases[side] = np.linalg.qr((shifted @ bases[side])[:, order])[0]


@pytest.mark.parametrize("frequency", [1, 2, 100])
def test_soap_follows_its_formula(frequency):
    grads = make_grads((4, 4))
    history = run(SOAP, grads, betas=B, shampoo_beta=0.7, eps=1e-3, weight_decay=0.0, precondition_frequency=frequency)
    assert_moves(history, soap_reference(grads, B, 0.7, 1e-3, frequency), 1e-9)


@pytest.mark.parametrize(("rows", "cols"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("shape", [(3, 5), (4, 3, 2)], ids=str)
def test_soap_with_identity_bases_is_adam(rows, cols, shape):
    grads = [torch.from_numpy(grad) for grad in make_grads(shape)]
    state = list(init_state(grads[0], rows, cols).values())
    moments = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    options = {"betas": B, "eps": 1e-3, "correct_bias": True}
    for step, grad in enumerate(grads, start=1):
        actual = calculate_soap_update(
            grad, *state, **options, shampoo_beta=None, precondition_frequency=100, step=step + 1
        )
        expected = calculate_adam_update(grad, *moments, **options, nesterov=False, step=step)
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_soap_leaves_the_first_weights_alone_and_gives_vectors_to_adam():
    assert (run(SOAP, make_grads((3, 5)), weight_decay=0.0)[1] == 0).all()
    grads = make_grads((5,))
    vector = run(SOAP, grads, betas=B, weight_decay=0.0)
    np.testing.assert_array_equal(vector, run(Adam, grads, betas=B))


@pytest.mark.parametrize("function", [torch.linalg.svd, torch.linalg.eigh, torch.linalg.qr])
def test_the_decompositions_of_a_stack_are_those_of_each_matrix_in_every_bit(function):
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(4, 12, 20, generator=generator, dtype=torch.float64)
    stack = factor @ factor.mT
    packed = torch.vmap(lambda matrix: tuple(function(matrix)))(stack)
    for position, matrix in enumerate(stack):
        assert all(torch.equal(one[position], own) for one, own in zip(packed, function(matrix), strict=True))


def test_soap_begins_with_eigenvectors_that_do_not_see_the_square_of_close_singular_values():
    """Singular values 1e-5 apart: an ulp turns their vectors by 1e-12, and those of the squares by 1e-10."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q for _ in range(2))
    values = torch.tensor([1.0, 0.5, 0.1, 0.01, 2e-3, 1.99e-3], dtype=torch.float64)
    bases = []
    for rounding in (0.0, 2.0**-52):
        grad = (left * values) @ right.mT * (1 + rounding * torch.randn(6, 6, generator=generator, dtype=torch.float64))
        state = init_state(grad, left=True, right=True)
        options = {"betas": B, "shampoo_beta": None, "eps": 1e-8, "correct_bias": True, "precondition_frequency": 10}
        calculate_soap_update(grad, *state.values(), **options, step=1)
        bases.append(state["basis_left"])
        torch.testing.assert_close(abs(left.mT @ state["basis_left"]), torch.eye(6).double(), rtol=0, atol=1e-9)
    aligned = bases[1] * (bases[0] * bases[1]).sum(0).sign()
    assert (aligned - bases[0]).abs().max() < 1e-11


def test_soap_takes_a_basis_of_the_null_space_that_rounding_does_not_choose():
    generator = torch.Generator().manual_seed(0)
    low_rank = torch.randn(6, 2, dtype=torch.float64, generator=generator) @ torch.randn(
        2, 5, dtype=torch.float64, generator=generator
    )
    bases = []
    for noise in (0.0, 1e-15):
        state = init_state(low_rank, True, True)
        grad = low_rank * (1 + noise * torch.randn(low_rank.shape, dtype=torch.float64, generator=generator))
        options = {"betas": B, "shampoo_beta": None, "eps": 1e-8, "correct_bias": True, "precondition_frequency": 10}
        calculate_soap_update(grad, *state.values(), **options, step=1)
        bases.append(state["basis_left"].abs())
        torch.testing.assert_close(state["basis_left"].mT @ state["basis_left"], torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(bases[0], bases[1], rtol=0, atol=1e-9)


def prodigy_reference(grads, start, lr, betas, eps, decay, d, correct_bias, safeguard, growth=math.inf):
    (b1, b2), d0, largest, b3 = betas, d, d, math.sqrt(betas[1])
    p, m, v, s, r = start.copy(), 0.0, 0.0, 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        rate = lr * (math.sqrt(1 - b2**t) / (1 - b1**t) if correct_bias else 1.0)
        m, v = b1 * m + (1 - b1) * d * g, b2 * v + (1 - b2) * (d * g) ** 2
        r = b3 * r + d / d0 * d * rate * np.sum(g * (start - p))
        s = b3 * s + d / d0 * (d if safeguard else d * rate) * g
        estimate, last = r / np.abs(s).sum(), d
        largest = max(largest, estimate)
        d = min(largest, (max(d, estimate) if d == d0 else d) * growth)
        p = p - last * rate * (m / (np.sqrt(v) + d * eps) + decay * p)
        yield p.copy()


@pytest.mark.parametrize("correct_bias", [False, True])
@pytest.mark.parametrize(("safeguard", "growth"), [(False, None), (True, 1.5)])
def test_prodigy_follows_its_formula(correct_bias, safeguard, growth):
    (grad, *_) = make_grads((4, 3))
    grads = [grad + 0.1 * noise for noise in make_grads((4, 3))] * 4
    options = {"betas": B, "eps": 1e-3, "weight_decay": 0.1, "d0": 1e-3}
    history = run(
        Prodigy, grads, 1.7, 0.5, correct_bias=correct_bias, safeguard_warmup=safeguard, growth_rate=growth, **options
    )
    expected = prodigy_reference(
        grads, history[0], 0.5, B, 1e-3, 0.1, 1e-3, correct_bias, safeguard, growth or math.inf
    )
    np.testing.assert_allclose(history[1:], list(expected), rtol=1e-9)
    assert np.abs(history[-1] - history[-2]).max() > 5 * np.abs(history[1] - history[0]).max()  # d has grown


def test_prodigy_has_one_estimate_for_all_groups_and_keeps_their_decay_apart():
    grads = make_grads((12,))
    options = {"betas": B, "d0": 1e-2}
    whole = run(Prodigy, grads, 1.7, 1.0, weight_decay=0.0, **options)
    params = [torch.nn.Parameter(torch.full((4, 2), 1.7, dtype=torch.float64))]
    params += [torch.nn.Parameter(torch.full((4,), 1.7, dtype=torch.float64))]
    optimizer = Prodigy([{"params": [param]} for param in params], lr=1.0, weight_decay=0.0, **options)
    decayed = Prodigy(
        [
            {"params": [torch.nn.Parameter(p.detach().clone())], "weight_decay": d}
            for p, d in zip(params, (0.5, 0.0), strict=True)
        ],
        lr=1.0,
        **options,
    )
    for grad in grads:
        for each in (optimizer, decayed):
            matrix, vector = (group["params"][0] for group in each.param_groups)
            matrix.grad, vector.grad = torch.from_numpy(grad[:8]).reshape(4, 2), torch.from_numpy(grad[8:])
            each.step()
    joined = torch.cat([param.detach().flatten() for param in params])
    np.testing.assert_allclose(joined.numpy(), whole[-1], rtol=1e-11)
    states = [optimizer.state[param] for param in params]
    assert states[0]["distance"] is states[1]["distance"]
    matrix, vector = (group["params"][0] for group in decayed.param_groups)
    assert (matrix < params[0]).all()
    assert not torch.equal(vector, params[1]) or torch.equal(decayed.state[vector]["distance"], states[0]["distance"])


def test_groups_that_differ_in_more_than_a_number_cannot_be_one():
    groups = [{"params": [torch.zeros(2)], "betas": (0.9, 0.99)}, {"params": [torch.zeros(3)], "betas": (0.8, 0.99)}]
    with pytest.raises(ValueError, match="betas="):
        merge_groups(groups)


@pytest.mark.parametrize(
    ("optimizer_class", "options", "message"),
    [
        (SOAP, {"precondition_frequency": 0}, "precondition_frequency=0"),
        (SOAP, {"shampoo_beta": 1.0}, "shampoo_beta=1.0"),
        (Scion, {"norm": "nope"}, "norm='nope': expected one of spectral, sign, rms"),
        (Scion, {"radius": -1.0}, "radius=-1.0"),
        (Scion, {"coefficient_type": "nope"}, "coefficient_type='nope'"),
        (PolarGrad, {"num_ns_steps": 0}, "num_ns_steps=0"),
        (ADOPT, {"betas": (0.9, 1.0)}, r"betas\[1\]=1.0"),
        (MARS, {"gamma": -1.0}, "gamma=-1.0"),
        (Prodigy, {"d0": 0}, "d0=0"),
        (Prodigy, {"growth_rate": 0.5}, "growth_rate=0.5"),
        (Prodigy, {"beta3": 1.0}, "beta3=1.0"),
        (LAMB, {"eps": -1.0}, "eps=-1.0"),
    ],
)
def test_bad_hyperparameters_are_refused(optimizer_class, options, message):
    with pytest.raises(ValueError, match=message):
        optimizer_class([torch.nn.Parameter(torch.zeros(2, 2))], **options)


@pytest.mark.parametrize("norm", ["spectral", "sign"])
def test_scion_refuses_vectors_for_the_norms_of_matrices(norm):
    with pytest.raises(ValueError, match="no matrix"):
        Scion([torch.nn.Parameter(torch.zeros(3))], norm=norm)
