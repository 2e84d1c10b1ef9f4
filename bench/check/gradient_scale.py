"""How the update depends on the size of the gradients, and why."""

import torch
from torch import Tensor

from bench.check.subject import MATRICES, Subject, drop_decay, make_params, require, values_of

EXPONENTS = range(-40, 41, 4)
NUM_STEPS = 3
TOLERANCE = 0.01


def check_gradient_scale(subject: Subject) -> str:
    """Gradients from 2^-40 to 2^40: what happens is reported, and only values that are not finite fail."""
    moves = {exponent: movement(subject, 2.0**exponent) for exponent in EXPONENTS}
    broken = [f"2^{exponent}" for exponent, move in moves.items() if not bool(move.isfinite().all())]
    require(not broken, f"not finite at gradients of {', '.join(broken)}")
    if all(torch.equal(move, moves[0]) for move in moves.values()):
        return "the update is bitwise the same from 2^-40 to 2^40"
    size = float(moves[0].norm())
    same = [exponent for exponent, move in moves.items() if float((move - moves[0]).norm()) <= TOLERANCE * size]
    if same == list(EXPONENTS):
        return "the update stays within 1 % from 2^-40 to 2^40"
    if same == [0]:
        return "the update changes with the size of the gradients"
    return f"the update stays within 1 % from 2^{same[0]} to 2^{same[-1]}; {_reason(subject, moves, same)}"


def movement(subject: Subject, scale: float) -> Tensor:
    """How far the parameters go in a few steps along gradients times `scale`, as one float64 vector."""
    params = make_params(subject.shapes)
    optimizer, before = subject.start(params), values_of(params)
    drop_decay(optimizer)
    subject.train(optimizer, params, range(NUM_STEPS), scale)
    return torch.cat([(p.detach() - b).flatten().double() for p, b in zip(params, before, strict=True)])


def _reason(subject: Subject, moves: dict[int, Tensor], same: list[int]) -> str:
    smallest = EXPONENTS[0]
    if smallest in same or float(moves[smallest].norm()) > float(moves[0].norm()):
        return "beyond, its state loses precision"
    group = subject.start(make_params(MATRICES)).param_groups[0]
    terms = [
        f"{name}={value:g}"
        for name, value in group.items()
        if name.split("_")[-1] == "eps" and isinstance(value, float)
    ]
    return f"smaller gradients sink below {', '.join(terms) or 'a stability term'}"
