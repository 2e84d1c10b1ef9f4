"""Modifiers: what can be put around any rule that takes one parameter at a time.

Each is a function from a rule to a rule. They combine in any order: `cautious` changes the update, `hyperball` how the
parameter follows it. Schedule-free training (Defazio et al. 2024, arXiv 2405.15682) is none of them: its average takes
the place of the rule's own momentum, and it has a number of its own; see `optimizers.schedule_free_adamw`.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor

from bench.errors import OptionError
from optimizers.rule import InitState, Rule, Scalar, cast, descend


def cautious(rule: Rule) -> Rule:
    r"""Only entries whose update agrees in sign with the gradient move. Liang et al. 2024, arXiv 2411.16085.

    $$u' = u \odot M / \max(\mathrm{mean}(M), 10^{-3}), \quad M = [u \odot g > 0]$$

    The mean over one parameter is the authors' code; the paper has (n + 1) / (sum(M) + 1).
    """
    return replace(rule, layout="single", finish=(*rule.finish, _keep_what_agrees))


def _keep_what_agrees(update: Tensor, grad: Tensor) -> Tensor:
    mask = (update * grad > 0).to(update.dtype)
    return update.mul_(mask).div_(mask.mean().clamp(min=1e-3))


def hyperball(rule: Rule) -> Rule:
    r"""Weights and updates of a fixed Frobenius norm. Wen et al. 2026, arXiv 2606.16899.

    $$W' = R \frac{\tilde W}{\|\tilde W\|_F}, \quad \tilde W = W - \eta R \frac{u}{\|u\|_F}, \quad R = \|W_0\|_F$$

    The learning rate becomes the tangent of an angle, and there is no weight decay. For parameters of two or more axes;
    one that begins as zero has no norm to keep and takes plain steps.
    """
    init_state = partial(_with_radius, rule.init_state)
    return replace(rule, layout="single", decays=False, init_state=init_state, move=_move_on_the_sphere)


def _with_radius(init_state: InitState, param: Tensor) -> dict[str, Tensor]:
    return {**init_state(param), "radius": torch.linalg.vector_norm(param.detach())}


def _move_on_the_sphere(param: Tensor, update: Tensor, lr: Scalar, radius: Tensor) -> None:
    length = torch.linalg.vector_norm(update)
    scale = torch.where(radius > 0, radius / torch.where(length > 0, length, 1.0), 1.0)
    param.sub_(update.mul_(scale * cast(lr, update)))
    norm = torch.linalg.vector_norm(param)
    param.mul_(torch.where((radius > 0) & (norm > 0), radius / norm, 1.0))


MODIFIERS: dict[str, Callable[[Rule], Rule]] = {"cautious": cautious, "hyperball": hyperball}


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
            rule = MODIFIERS[name](rule)
    return rule
