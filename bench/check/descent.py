"""Whether it descends where any optimizer should: on a quadratic, and towards a matrix."""

from collections.abc import Callable

import torch
from torch import Tensor

from bench.check.subject import Shape, Subject, make_params, require, switch_mode

NUM_STEPS = 200


def check_quadratic(subject: Subject) -> str:
    """Descends on a vector with curvatures from 0.1 to 10."""
    curvature = torch.logspace(-1, 1, 7)
    return _descend(subject, lambda x: (curvature * (x - 0.5).square()).sum() / 2, (7,))


def check_matrix_target(subject: Subject) -> str:
    """Descends towards a matrix of rank 2."""
    left, right = make_params([(6, 2), (2, 4)])
    target = (left @ right).detach()
    return _descend(subject, lambda x: (x - target).square().sum() / 2, (6, 4))


def _descend(subject: Subject, loss_of: Callable[[Tensor], Tensor], shape: Shape) -> str:
    (param,) = params = make_params([shape])
    optimizer = subject.start(params)
    first = float(loss_of(param.detach()))
    for _ in range(NUM_STEPS):

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(param)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        if subject.needs_closure:
            optimizer.step(closure)  # type: ignore[arg-type]
        else:
            closure()
            optimizer.step()
    switch_mode(optimizer, "eval")
    last = float(loss_of(param.detach()))
    require(last < first, f"the loss went from {first:.4g} to {last:.4g} in {NUM_STEPS} steps")
    return f"loss {first:.3g} to {last:.3g} in {NUM_STEPS} steps"
