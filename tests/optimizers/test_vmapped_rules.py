"""A rule applied under `torch.vmap` to K trials, hyperparameters as tensors, is K trials of the optimizer alone."""

import warnings
from typing import Any

import pytest
import torch
from hydra.utils import get_class

from optimizers.rule import apply_rule
from tests.configured import OURS, configured

NUM_TRIALS = 3
NUM_STEPS = 6

VARIANTS: dict[str, dict[str, Any]] = {
    "adam": {"nesterov": True},
    "ademamix": {"num_beta_slow_warmup_steps": 3, "num_alpha_warmup_steps": 4},
    "sim_ademamix": {"num_beta_fast_warmup_steps": 3},
    "signum": {"nesterov": True, "use_shape_scaling": True},
    "muon": {"fp32_matmul_prec": "highest"},
    "adamuon": {"fp32_matmul_prec": "highest"},
    "normuon": {"fp32_matmul_prec": "highest"},
    "namo": {"fp32_matmul_prec": "highest"},
    "polargrad": {"fp32_matmul_prec": "highest"},
    "scion": {"fp32_matmul_prec": "highest"},
    "hyperball_muon": {"fp32_matmul_prec": "highest"},
}


def our_optimizers():
    """(name, class, hyperparameters) of every rule of ours, as its yaml has it and in the variant above."""
    for name in OURS:
        config = configured(name)
        optimizer_class, options = get_class(config.class_path).with_modifiers(config.modifiers), config.hyperparameters
        yield pytest.param(optimizer_class, options, id=name)
        if name in VARIANTS:
            yield pytest.param(optimizer_class, {**options, **VARIANTS[name]}, id=f"{name} variant")


def spread(value, trial):
    """Trial k's own value of a float hyperparameter: a little smaller each."""
    return value * 0.97**trial if isinstance(value, float) else value


def stack(values):
    """Floats of K trials as one float64 tensor; all else must agree."""
    if isinstance(values[0], tuple):
        return tuple(stack(column) for column in zip(*values, strict=True))
    return torch.tensor(values, dtype=torch.float64) if isinstance(values[0], float) else values[0]


def is_tensor(value):
    return isinstance(value, torch.Tensor) or (isinstance(value, tuple) and all(map(is_tensor, value)))


def run_alone(optimizers, params, grads):
    for grads_of_step in grads:
        for optimizer, param, grad in zip(optimizers, params, grads_of_step, strict=True):
            param.grad = grad.clone()
            optimizer.step()


def run_packed(rule, optimizers, initial, grads, step_dtype):
    group = {
        name: stack([o.param_groups[0][name] for o in optimizers])
        for name in optimizers[0].param_groups[0]
        if name != "params"
    }
    numbers = {name: value for name, value in group.items() if is_tensor(value)}
    packed = initial.clone()
    states = [rule.init_state(param).values() for param in initial]
    state = [torch.stack(of_all) for of_all in zip(*states, strict=True)]
    for step, grad in enumerate(grads, start=1):
        numbers |= rule.advance({**group, **numbers})
        count = step if step_dtype is int else torch.tensor(float(step), dtype=step_dtype)

        def apply(param, grad, state, numbers, count=count):
            apply_rule(rule, param, grad, state, {**group, **numbers}, count)
            return param

        torch.vmap(apply)(packed, grad, state, numbers)
    return packed


@pytest.mark.parametrize(("optimizer_class", "options"), list(our_optimizers()))
@pytest.mark.parametrize("shape", [(5, 3), (4,)], ids=str)
@pytest.mark.parametrize("step_dtype", [int, torch.float64], ids=["int step", "tensor step"])
def test_packed_trials_are_the_trials_alone(optimizer_class, options, shape, step_dtype):
    generator = torch.Generator().manual_seed(0)
    initial = torch.randn(NUM_TRIALS, *shape, dtype=torch.float64, generator=generator)
    grads = torch.randn(NUM_STEPS, NUM_TRIALS, *shape, dtype=torch.float64, generator=generator)
    params = [torch.nn.Parameter(one.clone()) for one in initial]
    try:
        optimizers = [
            optimizer_class([param], **{name: spread(value, k) for name, value in options.items()})
            for k, param in enumerate(params)
        ]
    except ValueError:
        assert len(shape) != 2  # a rule for matrices only
        return
    rule = optimizers[0].rule_for(params[0], optimizers[0].param_groups[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "no batching rule": it would loop over the trials
        packed = run_packed(rule, optimizers, initial, grads, step_dtype)
    run_alone(optimizers, params, grads)
    in_bfloat16 = options.get("fp32_matmul_prec") == "medium" or ("ns_steps" in options and len(shape) == 2)
    tolerance = 1e-2 if in_bfloat16 else 1e-12
    torch.testing.assert_close(packed, torch.stack([p.detach() for p in params]), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("optimizer_class", "options"), list(our_optimizers()))
def test_a_diverged_trial_leaves_the_others_bitwise_alone(optimizer_class, options):
    generator = torch.Generator().manual_seed(0)
    initial = torch.randn(NUM_TRIALS, 5, 3, generator=generator)
    grads = torch.randn(NUM_STEPS, NUM_TRIALS, 5, 3, generator=generator)
    optimizers = [optimizer_class([torch.nn.Parameter(one.clone())], **options) for one in initial]
    rule = optimizers[0].rule_for(optimizers[0].param_groups[0]["params"][0], optimizers[0].param_groups[0])
    healthy = run_packed(rule, optimizers, initial, grads, int)
    grads[1, 0] = torch.nan
    broken = run_packed(rule, optimizers, initial, grads, int)
    assert torch.equal(broken[1:], healthy[1:])
    assert not torch.equal(broken[0], healthy[0])  # nan, or at rest where the sign of nan is 0
