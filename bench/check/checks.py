"""The checks. Each is a function of a subject that returns what it found, or raises.

`CheckFailed` means that the optimizer is at fault, `NotApplicable` that the question makes no sense for it; any other
exception counts as a failure. Gradients are fixed random ones unless a check says otherwise.
"""

import io
import math
from collections.abc import Callable

import torch
from torch import Tensor

from bench.check.descent import check_matrix_target, check_quadratic
from bench.check.gradient_scale import check_gradient_scale
from bench.check.packs import check_packs, check_separate_tensors
from bench.check.subject import (
    MATRICES,
    OTHERS,
    CheckFailed,
    NotApplicable,
    Subject,
    drop_decay,
    largest_difference,
    make_grads,
    make_params,
    require,
    require_equal,
    set_lr,
    values_of,
)

NUM_STEPS = 3


def check_parameter_shapes(subject: Subject) -> str:
    """Takes parameters of any number of axes, beside matrices."""
    for shape in (MATRICES[0], *OTHERS):
        params = make_params([shape])
        optimizer = subject.start(params)
        try:
            subject.train(optimizer, params, range(2))
        except Exception as error:
            raise CheckFailed(f"shape {shape}: {type(error).__name__}: {error}") from error
    return "scalars, vectors, matrices, convolution weights"


def check_first_step(subject: Subject) -> str:
    """The first step has the closed form that the class declares as `first_update(grad, group)`."""
    params = make_params(subject.shapes, torch.float64)
    optimizer = subject.start(params)
    declared = getattr(optimizer, "first_update", None)
    if declared is None:
        raise NotApplicable("declares no first_update(grad, group)")
    drop_decay(optimizer)
    before, group = values_of(params), optimizer.param_groups[0]
    updates = [declared(grad, group) for grad in make_grads(params, 0)]
    if any(update is None for update in updates):
        raise NotApplicable("declares no first update for these options")
    subject.train(optimizer, params, [0])
    expected = [param - group["lr"] * update for param, update in zip(before, updates, strict=True)]
    error = largest_difference(params, expected)
    require(error < 1e-9, f"off by {error:.2g} from first_update")
    return f"float64 error {error:.1g}"


def check_state_round_trip(subject: Subject) -> str:
    """Saved and loaded, it goes on bit for bit."""
    params = make_params(subject.shapes)
    optimizer = subject.start(params)
    subject.train(optimizer, params, range(NUM_STEPS))
    file = io.BytesIO()
    torch.save((params, optimizer.state_dict()), file)
    file.seek(0)
    loaded_params, state = torch.load(file, weights_only=False)
    loaded = subject.start(loaded_params)
    loaded.load_state_dict(state)
    for each, own in ((optimizer, params), (loaded, loaded_params)):
        subject.train(each, own, range(NUM_STEPS, 2 * NUM_STEPS))
    require_equal(loaded_params, values_of(params), "goes on differently from a saved state")
    return f"{NUM_STEPS} steps, saved, {NUM_STEPS} more: bitwise equal"


def check_none_gradients(subject: Subject) -> str:
    """A parameter without a gradient stays, the others move."""
    params = make_params(subject.shapes)
    optimizer, before = subject.start(params), values_of(params)
    for step in range(NUM_STEPS):
        subject.step(optimizer, params, [None, *make_grads(params, step)[1:]])
    require_equal(params[:1], before[:1], "a parameter without a gradient moved")
    require(any(not torch.equal(p, b) for p, b in zip(params[1:], before[1:], strict=True)), "no other one moved")
    subject.step(optimizer, params, [None] * len(params))
    return "it stays, the others move; all None is no error"


def check_zero_gradients(subject: Subject) -> str:
    """Zero gradients from the start are no division by zero."""
    params = make_params(subject.shapes)
    optimizer, before = subject.start(params), values_of(params)
    drop_decay(optimizer)
    for _ in range(NUM_STEPS):
        subject.step(optimizer, params, [torch.zeros_like(param) for param in params])
    require(all(bool(param.isfinite().all()) for param in params), "parameters are no longer finite")
    moved = any(not torch.equal(p, b) for p, b in zip(params, before, strict=True))
    return "moves all the same" if moved else "nothing moves"


def check_empty_group(subject: Subject) -> str:
    """A group without parameters is no error."""
    params = make_params(MATRICES)
    optimizer = subject.start([{"params": params}, {"params": []}])
    subject.train(optimizer, params, range(NUM_STEPS))
    return "accepted"


def check_group_lr(subject: Subject) -> str:
    """Every group obeys its own lr."""
    params = make_params(MATRICES)
    optimizer = subject.start([{"params": params[:1]}, {"params": params[1:]}])
    drop_decay(optimizer)
    lr = optimizer.param_groups[1].get("lr")
    set_lr(optimizer, 0.0)
    optimizer.param_groups[1]["lr"] = lr
    before = values_of(params)
    subject.train(optimizer, params, range(NUM_STEPS))
    require_equal(params[:1], before[:1], "a group with lr = 0 moved")
    require(not torch.equal(params[1], before[1]), "the group with an lr did not move")
    return "lr = 0 in one group stops that one alone"


def check_lr_of_zero(subject: Subject) -> str:
    """lr = 0 changes nothing, the decay included."""
    for decay in (True, False):
        params = make_params(subject.shapes)
        optimizer, before = subject.start(params), values_of(params)
        set_lr(optimizer, 0.0)
        if not decay:
            drop_decay(optimizer)
        subject.train(optimizer, params, range(NUM_STEPS))
        if all(torch.equal(param, value) for param, value in zip(params, before, strict=True)):
            return "nothing moves" if decay else "nothing moves but for the decay, which is independent of lr"
    raise CheckFailed("parameters move at lr = 0")


def _check_dtype(subject: Subject, dtype: torch.dtype) -> str:
    params = make_params(subject.shapes, dtype)
    optimizer, before = subject.start(params), values_of(params)
    subject.train(optimizer, params, range(2 * NUM_STEPS))
    require(all(param.dtype == dtype for param in params), "a parameter changed its dtype")
    require(all(bool(param.isfinite().all()) for param in params), "parameters are no longer finite")
    moved = any(not torch.equal(p, b) for p, b in zip(params, before, strict=True))
    tensors = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.numel() > 1})
    state = f"state in {', '.join(kinds)}" if kinds else "no state"
    return state if moved else f"{state}; steps too small for this precision to show"


def check_bfloat16(subject: Subject) -> str:
    """Trains bfloat16 parameters."""
    return _check_dtype(subject, torch.bfloat16)


def check_float64(subject: Subject) -> str:
    """Trains float64 parameters."""
    return _check_dtype(subject, torch.float64)


def check_strided_gradients(subject: Subject) -> str:
    """The layout of a gradient in memory does not matter, nor is the gradient changed."""
    params, strided = make_params(MATRICES), make_params(MATRICES)
    optimizer, other = subject.start(params), subject.start(strided)
    for step in range(NUM_STEPS):
        grads = make_grads(params, step)
        subject.step(optimizer, params, grads)
        subject.step(other, strided, [grad.T.contiguous().T for grad in grads])
    error = largest_difference(params, strided)
    require(error < 1e-5, f"a transposed layout moves parameters elsewhere: off by {error:.2g}")
    return "bitwise equal" if error == 0 else f"equal to {error:.1g}"


def check_nan_stays_local(subject: Subject) -> str:
    """A NaN in one gradient does not reach other parameters."""
    params, healthy = make_params(MATRICES), make_params(MATRICES)
    optimizer, other = subject.start(params), subject.start(healthy)
    for step in range(NUM_STEPS):
        grads = make_grads(params, step)
        subject.step(other, healthy, grads)
        grads[0] = torch.full_like(grads[0], math.nan) if step == 0 else grads[0]
        subject.step(optimizer, params, grads)
    spread = not all(bool(param.isfinite().all()) for param in params[1:])
    require(not spread, "other parameters are no longer finite")
    same = all(torch.equal(p, h) for p, h in zip(params[1:], healthy[1:], strict=True))
    return "the others move bitwise as without it" if same else "the others stay finite, but move differently"


def check_deterministic(subject: Subject) -> str:
    """Two runs from the same random state are bitwise equal."""
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        params = make_params(subject.shapes)
        subject.train(subject.start(params), params, range(2 * NUM_STEPS))
        results.append(values_of(params))
    require_equal(results[1], results[0], "two runs differ")
    return "bitwise equal"


CHECKS: tuple[Callable[[Subject], str], ...] = (
    check_parameter_shapes,
    check_first_step,
    check_state_round_trip,
    check_none_gradients,
    check_zero_gradients,
    check_empty_group,
    check_group_lr,
    check_lr_of_zero,
    check_bfloat16,
    check_float64,
    check_strided_gradients,
    check_gradient_scale,
    check_nan_stays_local,
    check_deterministic,
    check_packs,
    check_separate_tensors,
    check_quadratic,
    check_matrix_target,
)
