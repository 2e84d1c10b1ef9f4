"""DeePMD-kit's AdaMuon against a float64 reference; its Newton-Schulz runs in bfloat16, hence the tolerance."""

import math

import numpy as np
import pytest
import torch

from optimizers.deepmd_adamuon import AdaMuonOptimizer, _prepare_muon_momentum, zeropower_via_newtonschulz5

NUM_STEPS = 5
LR = 0.5


def orthogonalize(x, steps):
    x = x / max(np.linalg.norm(x), 1e-8)
    for _ in range(steps):
        x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
    return x


def matrix_updates(grads, beta, steps, nesterov, lr_adjust, coefficient, eps):
    m, v = 0.0, 0.0
    for g in (grad.reshape(grad.shape[0], -1) for grad in grads):
        rows, cols = g.shape
        m = beta * m + (1 - beta) * g
        o = orthogonalize(np.sign(beta * m + (1 - beta) * g if nesterov else m), steps)
        v = beta * v + (1 - beta) * o**2
        u = o / (np.sqrt(v) + eps)
        u = u / (np.linalg.norm(u) + eps) * 0.2 * math.sqrt(rows * cols)
        scale = math.sqrt(max(1, rows / cols)) if lr_adjust > 0 else coefficient * math.sqrt(max(rows, cols))
        yield (u * scale).reshape(grads[0].shape)


def make_grads(shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(NUM_STEPS)]


def run(grads, start=0.0, **options):
    param = torch.nn.Parameter(torch.full_like(grads[0], start))
    optimizer = AdaMuonOptimizer([param], lr=LR, **options)
    history = []
    for grad in grads:
        param.grad = grad.clone()
        optimizer.step()
        history.append(param.detach().double().numpy().copy())
    return np.stack(history), optimizer.state[param]


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (8, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("lr_adjust", [10.0, 0.0, -1.0])
def test_matrices_follow_the_formula(shape, nesterov, lr_adjust):
    grads = make_grads(shape)
    options = {"nesterov": nesterov, "lr_adjust": lr_adjust, "lr_adjust_coeff": 0.3}
    history, _ = run(grads, weight_decay=0.0, momentum=0.9, **options)
    updates = matrix_updates([g.double().numpy() for g in grads], 0.9, 5, nesterov, lr_adjust, 0.3, 1e-8)
    expected = -LR * np.cumsum(list(updates), axis=0)
    assert np.linalg.norm(history - expected) < 0.05 * np.linalg.norm(expected)


@pytest.mark.parametrize(("shape", "norm"), [((4, 9), 0.2 * 6), ((9, 4), 0.2 * 6 * 1.5), ((9, 2, 2), 0.2 * 6 * 1.5)])
def test_update_has_the_stated_norm(shape, norm):
    (after,), _ = run(make_grads(shape)[:1], weight_decay=0.0)
    assert np.linalg.norm(after) == pytest.approx(LR * norm, rel=1e-5)


@pytest.mark.parametrize(("lr_adjust", "lr"), [(10.0, LR / 10), (0.0, LR), (-1.0, LR)])
@pytest.mark.parametrize("shape", [(), (7,)], ids=str)
def test_vectors_take_adam_with_their_own_lr_and_no_decay(lr_adjust, lr, shape):
    grads = make_grads(shape)
    history, _ = run(grads, start=1.0, weight_decay=0.5, lr_adjust=lr_adjust, adam_betas=(0.8, 0.9), adam_eps=0.01)
    param, m, v = np.ones(shape), 0.0, 0.0
    for t, (grad, actual) in enumerate(zip(grads, history, strict=True), start=1):
        g = grad.double().numpy()
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        param = param - lr * m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.9**t)) + 0.01)
        np.testing.assert_allclose(actual, param, rtol=1e-5, atol=1e-6)


def test_matrices_decay_before_the_update():
    grads = make_grads((3, 4))[:1]
    (decayed,), _ = run(grads, start=2.0, weight_decay=0.1)
    (plain,), _ = run(grads, weight_decay=0.0)
    np.testing.assert_allclose(decayed, 2.0 * (1 - LR * 0.1) + plain, rtol=1e-6)


def test_states_are_matrices_and_second_moments_at_least_float32():
    _, state = run(make_grads((4, 3, 2), torch.bfloat16))
    assert (state["momentum_buffer"].shape, state["momentum_buffer"].dtype) == ((4, 6), torch.bfloat16)
    assert (state["v_buffer"].shape, state["v_buffer"].dtype) == ((4, 6), torch.float32)
    _, state = run(make_grads((5,), torch.bfloat16))
    assert {name: state[name].dtype for name in ("exp_avg", "exp_avg_sq")} == dict.fromkeys(
        ("exp_avg", "exp_avg_sq"), torch.float32
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ns_steps": 100}, "ns_steps=100"),
        ({"ns_steps": 0}, "ns_steps=0"),
        ({"adam_betas": (0.9, 1.0)}, r"adam_betas\[1\]=1.0"),
        ({"momentum": -0.1}, "momentum=-0.1"),
        ({"eps": -1.0}, "eps=-1.0"),
        ({"adam_eps": -1.0}, "adam_eps=-1.0"),
        ({"lr": float("nan")}, "lr=nan"),
    ],
)
def test_bad_hyperparameters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdaMuonOptimizer([torch.nn.Parameter(torch.zeros(2, 2))], **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(6, 4), (4, 9), (2, 3, 5, 4)], ids=str)
def test_zeroth_power_is_bfloat16_in_its_inputs_shape(shape, dtype):
    x = make_grads(shape)[0].to(dtype)
    result = zeropower_via_newtonschulz5(x)
    assert (result.dtype, result.shape) == (torch.bfloat16, x.shape)
    values = torch.linalg.svdvals(result.float())
    assert 0.5 < values.min() <= values.max() < 1.4


@pytest.mark.parametrize(
    ("shape", "steps", "message"), [((4,), 5, "two axes"), ((4, 4), 100, "steps=100"), ((4, 4), 0, "steps=0")]
)
def test_zeroth_power_refuses_vectors_and_endless_steps(shape, steps, message):
    with pytest.raises(ValueError, match=message):
        zeropower_via_newtonschulz5(torch.ones(shape), steps)


@pytest.mark.parametrize("nesterov", [True, False])
def test_momentum_of_any_tensor_is_prepared_as_a_matrix(nesterov):
    grad, buffer = make_grads((4, 3, 2))[0], torch.ones(4, 3, 2)
    update, shape = _prepare_muon_momentum(grad, buffer, 0.9, nesterov)
    averaged = 0.9 + 0.1 * grad
    torch.testing.assert_close(buffer, averaged)
    expected = 0.9 * averaged + 0.1 * grad if nesterov else averaged
    torch.testing.assert_close(update, expected.reshape(4, 6))
    assert shape == (4, 3, 2)
