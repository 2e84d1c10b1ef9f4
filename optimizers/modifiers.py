"""Modifiers: what can be put around any rule that takes one parameter at a time.

Each is a function from a rule to a rule for parameters of so many axes: what it measures is of one parameter, so that
those of one shape may share a call, stacked. They combine in any order: `cautious` changes the update, `hyperball` how
the parameter follows it. Schedule-free training (Defazio et al. 2024, arXiv 2405.15682) is none of them: its average
takes the place of the rule's own momentum, and it has a number of its own; see `optimizers.schedule_free_adamw`.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor

from bench.errors import OptionError
from optimizers.rule import InitState, Layout, Rule, Scalar, cast, descend


def cautious(rule: Rule, num_axes: int) -> Rule:
    r"""Only entries whose update agrees in sign with the gradient move. Liang et al. 2024, arXiv 2411.16085.

    $$u' = u \odot M / \max(\mathrm{mean}(M), 10^{-3}), \quad M = [u \odot g > 0]$$

    The mean over one parameter is the authors' code; the paper has (n + 1) / (sum(M) + 1).
    """
    finish = partial(_keep_what_agrees, num_axes=num_axes)
    return replace(rule, layout=_by_parameter(rule), finish=(*rule.finish, finish))


def _by_parameter(rule: Rule) -> Layout:
    """How parameters may share a call of a rule with a statistic of each."""
    return "stack" if rule.layout == "flat" else rule.layout


def _keep_what_agrees(update: Tensor, grad: Tensor, num_axes: int) -> Tensor:
    mask = (update * grad > 0).to(update.dtype)
    share = _as_vectors(mask, num_axes).mean(-1).clamp(min=1e-3)
    return update.mul_(mask).div_(_to_axes(share, num_axes))


def _as_vectors(tensor: Tensor, num_axes: int) -> Tensor:
    """Each parameter's entries along one last axis."""
    return tensor.flatten(-num_axes) if num_axes else tensor[..., None]


def _to_axes(number: Tensor, num_axes: int) -> Tensor:
    """One number per parameter, as it meets their entries."""
    return number.reshape((*number.shape, *(1,) * num_axes))


def hyperball(rule: Rule, num_axes: int) -> Rule:
    r"""Weights and updates of a fixed Frobenius norm. Wen et al. 2026, arXiv 2606.16899.

    $$W' = R \frac{\tilde W}{\|\tilde W\|_F}, \quad \tilde W = W - \eta R \frac{u}{\|u\|_F}, \quad R = \|W_0\|_F$$

    The learning rate becomes the tangent of an angle, and there is no weight decay. For parameters of two or more axes;
    one that begins as zero has no norm to keep and takes plain steps.
    """
    init_state = partial(_with_radius, rule.init_state)
    move = partial(_move_on_the_sphere, num_axes)
    return replace(rule, layout=_by_parameter(rule), decays=False, init_state=init_state, move=move)


def _with_radius(init_state: InitState, param: Tensor) -> dict[str, Tensor]:
    return {**init_state(param), "radius": torch.linalg.vector_norm(param.detach())}


def _move_on_the_sphere(num_axes: int, param: Tensor, update: Tensor, lr: Scalar, radius: Tensor) -> None:
    radius = _to_axes(radius, num_axes)
    length = _norm(update, num_axes)
    scale = torch.where(radius > 0, radius / torch.where(length > 0, length, 1.0), 1.0)
    param.sub_(update.mul_(scale * cast(lr, update)))
    norm = _norm(param, num_axes)
    param.mul_(torch.where((radius > 0) & (norm > 0), radius / norm, 1.0))


def _norm(tensor: Tensor, num_axes: int) -> Tensor:
    return _to_axes(torch.linalg.vector_norm(_as_vectors(tensor, num_axes), dim=-1), num_axes)


MODIFIERS: dict[str, Callable[[Rule, int], Rule]] = {"cautious": cautious, "hyperball": hyperball}


def check_modifiers(names: Iterable[str]) -> tuple[str, ...]:
    """`names` as a tuple. Raises ValueError for an unknown or repeated one."""
    chosen = tuple(names)
    if not set(chosen) <= MODIFIERS.keys() or len(set(chosen)) < len(chosen):
        raise OptionError("modifiers", list(chosen), f"expected different ones of {', '.join(MODIFIERS)}")
    return chosen


@cache
def modify(rule: Rule, names: tuple[str, ...], num_axes: int) -> Rule:
    """`rule` with modifiers around it, for parameters of `num_axes` axes; the same rule for the same arguments.

    Raises:
        ValueError: a rule that takes the whole model in one call; `hyperball` around one that moves parameters in a way
            of its own.
    """
    if names and rule.layout == "whole":
        raise OptionError("modifiers", list(names), "not for a rule that takes the whole model in one call")
    if "hyperball" in names and rule.move is not descend:
        raise OptionError(
            "modifiers", list(names), "hyperball is not for a rule that keeps several points, as this one"
        )
    for name in names:
        if name != "hyperball" or num_axes >= 2:
            rule = MODIFIERS[name](rule, num_axes)
    return rule
