"""Schedule-free AdamW against its formula and its authors' definition, and what an evaluation may not change."""

import copy

import numpy as np
import pytest
import torch

from optimizers.schedule_free_adamw import ScheduleFreeAdamW

SHAPES = [(7,), (5, 3), (), (2, 3, 4)]
OPTIONS = {"lr": 0.02, "betas": (0.85, 0.97), "eps": 1e-6, "weight_decay": 0.1}
LRS = [0.004, 0.008, 0.012, 0.016] + [0.02] * 26  # a warm-up, as the harness has it


def make_tensors(step, dtype=torch.float64):
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in SHAPES]


def make_params(dtype=torch.float64):
    return [torch.nn.Parameter(tensor) for tensor in make_tensors(-1, dtype)]


def train(optimizer, params, lrs=LRS, after=lambda: None):
    """Steps along gradients of the distance to a point that is another one at every step."""
    for step, lr in enumerate(lrs):
        for param, target in zip(params, make_tensors(step, params[0].dtype), strict=True):
            param.grad = param.detach() - target
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        after()


def follow_formula(index, lrs):
    """Where one parameter trains and where it is evaluated in the end, by algorithm 1 with the decay at y."""
    (b1, b2), eps, decay = OPTIONS["betas"], OPTIONS["eps"], OPTIONS["weight_decay"]
    y = z = x = make_tensors(-1)[index].numpy()
    v, total = 0.0, 0.0
    for step, lr in enumerate(lrs):
        g = y - make_tensors(step)[index].numpy()
        v = b2 * v + (1 - b2) * g**2
        z = z - lr * (g / (np.sqrt(v / (1 - b2 ** (step + 1))) + eps) + decay * y)
        total += lr**2
        x = (1 - lr**2 / total) * x + lr**2 / total * z
        y = (1 - b1) * z + b1 * x
    return y, x


@pytest.mark.parametrize("lrs", [LRS, LRS[:1], LRS[:5]], ids=["30 steps", "1 step", "5 steps"])
def test_both_points_follow_the_formula_through_a_warm_up(lrs):
    params = make_params()
    optimizer = ScheduleFreeAdamW(params, **OPTIONS)
    train(optimizer, params, lrs)
    trained = [param.detach().clone() for param in params]
    optimizer.eval()
    for index, (y, x) in enumerate(zip(trained, params, strict=True)):
        expected = follow_formula(index, lrs)
        np.testing.assert_allclose(y.numpy(), expected[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(x.detach().numpy(), expected[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lrs", [LRS, LRS[::-1]], ids=["warm-up", "decay"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-5)], ids=str)
def test_it_is_that_of_pytorch_optimizer(lrs, dtype, tolerance):
    """To rounding, the larger as theirs extrapolates the point that is evaluated."""
    peers = pytest.importorskip("pytorch_optimizer")
    points = []
    for optimizer_class in (ScheduleFreeAdamW, peers.ScheduleFreeAdamW):
        params = make_params(dtype)
        optimizer = optimizer_class(params, **OPTIONS)
        optimizer.train()
        train(optimizer, params, lrs)
        points.append([param.detach().clone() for param in params])
        optimizer.eval()
        points[-1] += [param.detach().clone() for param in params]
    torch.testing.assert_close(*points, rtol=tolerance, atol=tolerance)


def test_a_training_does_not_notice_that_it_is_evaluated():
    calm, watched = make_params(torch.float32), make_params(torch.float32)
    train(ScheduleFreeAdamW(calm, **OPTIONS), calm)
    optimizer = ScheduleFreeAdamW(watched, **OPTIONS)

    def evaluate():
        optimizer.eval()
        optimizer.eval()
        optimizer.train()
        optimizer.train()

    train(optimizer, watched, after=evaluate)
    assert all(torch.equal(one, other) for one, other in zip(calm, watched, strict=True))


@pytest.mark.parametrize("evaluating", [False, True])
def test_a_saved_state_goes_on_bit_by_bit_from_either_mode(evaluating):
    params = make_params()
    optimizer = ScheduleFreeAdamW(params, **OPTIONS)
    train(optimizer, params, LRS[:10])
    if evaluating:
        optimizer.eval()
    twins = [torch.nn.Parameter(param.detach().clone()) for param in params]
    other = ScheduleFreeAdamW(twins)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for own, its in ((optimizer, params), (other, twins)):
        own.train()
        train(own, its, LRS[10:])
    assert all(torch.equal(one, twin) for one, twin in zip(params, twins, strict=True))


def test_a_tensor_lr_weighs_as_a_number_does():
    params, twins = make_params(), make_params()
    train(ScheduleFreeAdamW(params, **OPTIONS), params)
    train(ScheduleFreeAdamW(twins, **OPTIONS), twins, [torch.tensor(lr, dtype=torch.float64) for lr in LRS])
    torch.testing.assert_close(params, twins, rtol=1e-12, atol=1e-12)


def test_steps_with_an_lr_of_zero_weigh_nothing():
    params, twins = make_params(), make_params()
    start = [param.detach().clone() for param in params]
    optimizer = ScheduleFreeAdamW(params, **OPTIONS)
    train(optimizer, params, [0.0, 0.0])
    assert all(torch.equal(param, value) for param, value in zip(params, start, strict=True))
    assert ScheduleFreeAdamW(twins, **OPTIONS).param_groups[0]["weight_sum"] == optimizer.param_groups[0]["weight_sum"]


def test_a_step_in_evaluation_mode_is_refused():
    params = make_params()
    optimizer = ScheduleFreeAdamW(params, **OPTIONS)
    train(optimizer, params, LRS[:2])
    optimizer.eval()
    with pytest.raises(RuntimeError, match="call train"):
        train(optimizer, params, LRS[:1])


def test_hyperball_is_refused_around_several_points():
    params = make_params()
    optimizer = ScheduleFreeAdamW.with_modifiers(["hyperball"])(params)
    with pytest.raises(ValueError, match="several points"):
        train(optimizer, params, LRS[:1])
