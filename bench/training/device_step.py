"""The whole step of a pack as one compiled function: batch, forward, backward and update.

It is the pack's own step, traced on a copy of the pack that holds the traced tensors. No number of the host is part of
it: the step count and the factor on the learning rate are tensors.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from bench.tracing import Parts, trace_in_parts
from bench.training.clock import StepClock
from bench.training.ensemble import Ensemble


class CompiledEnsemble(Ensemble):
    """Trials whose steps are compiled whole; all of a step but the index of its batch counts as the optimizer's time.

    They are compiled once more when a trial leaves.
    """

    _compiled: "DeviceStep | None" = None

    def step(self, lr_factor: float, clock: StepClock) -> Tensor:
        index = self.next_index()
        clock.lap("data")
        if self._compiled is None:
            self._compiled = DeviceStep(self, index)
        losses = self._compiled(self, index, lr_factor)
        clock.lap("optimizer")
        return losses

    def keep(self, positions: Sequence[int]) -> None:
        super().keep(positions)
        self._compiled = None


class DeviceStep:
    """The step of a pack, compiled for as many trials as the pack has.

    Args:
        pack: its optimizers are built on rules.
        index: of a batch, `[K, ...]`.

    Raises:
        RuntimeError: the step cannot be traced; one line.
    """

    def __init__(self, pack: Ensemble, index: Tensor) -> None:
        _settle(pack, index)
        tensors, numbers = [index, *_tensors_of(pack)], _numbers_of(pack, 1.0)

        def step(*flat: Tensor) -> list[Tensor]:
            index, *own = flat[: len(tensors)]
            other, factor, scale = _holding(pack, own, flat[len(tensors) :])
            losses = other.take_step(index, factor, scale, lambda part: None)
            return [losses, *(result.detach() for result in _changed_in(other))]

        try:
            with torch.enable_grad():
                parts = trace_in_parts(step, tensors, numbers)
        except Exception as error:  # whatever torch's tracer says of anyone's code
            text = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RuntimeError(f"compile=step: the step cannot be traced: {text}") from error
        self._parts = _compile(parts, index.device)

    @torch.no_grad()
    def __call__(self, pack: Ensemble, index: Tensor, lr_factor: float) -> Tensor:
        """Take the step. Returns the losses before it, `[K]`."""
        values = self._parts.numbers(*_numbers_of(pack, lr_factor))
        losses, *changed = self._parts([index, *_tensors_of(pack)], values)
        _take_over(pack, iter(changed))
        return losses.clone()  # a graph on a GPU writes the next ones in the same place


def _settle(pack: Ensemble, index: Tensor) -> None:
    """Find out, by a step that moves nothing, which parameters have a gradient and whether the model draws."""
    other, *_ = _holding(pack, [tensor.clone() for tensor in _tensors_of(pack)], _numbers_of(pack, 1.0))
    other.take_step(index, 1.0, 1.0, lambda part: None)
    pack.randomness.end_first_step()
    pack.optimizer.leave_out(other.optimizer.unused)


def _compile(parts: Parts, device: torch.device) -> Parts:
    options: Any = {"fullgraph": True, "dynamic": False}
    mode = "reduce-overhead" if device.type == "cuda" else None
    tensors: Any = torch.compile(parts.tensors.forward, mode=mode, **options)
    return replace(parts, numbers=torch.compile(parts.numbers, **options), tensors=tensors)


def _tensors_of(pack: Ensemble) -> list[Tensor]:
    """All tensors that a step takes but for its index; it changes parameters and states in place."""
    buckets = pack.optimizer.rule_buckets
    return [pack.seeds, *pack.constants.values(), *(t for bucket in buckets for t in (bucket.param, *bucket.state))]


def _numbers_of(pack: Ensemble, lr_factor: float) -> list[Tensor]:
    """All numbers that a step takes, as float64 tensors on the device."""
    buckets = pack.optimizer.rule_buckets
    scale = pack.trial.task.gradient_scale(pack.optimizer.num_steps + 1)
    counts = [pack.optimizer.num_steps, *(bucket.num_steps for bucket in buckets)]
    host = torch.tensor([lr_factor, scale, *counts], dtype=torch.float64)
    if pack.seeds.is_cuda:
        host = host.pin_memory().to(pack.seeds.device, non_blocking=True)
    return [*host.unbind(), *(number for bucket in buckets for number in _flat(bucket.numbers.values()))]


def _flat(numbers: Iterable[Any]) -> list[Tensor]:
    return [leaf for number in numbers for leaf in (number if isinstance(number, tuple) else (number,))]


def _holding(pack: Ensemble, tensors: Sequence[Tensor], numbers: Sequence[Tensor]) -> tuple[Ensemble, Tensor, Tensor]:
    """The pack with other tensors and numbers in the place of its own; the factors on the lr and on the gradient."""
    other, own_tensors = copy(pack), iter(tensors)
    other.seeds = next(own_tensors)
    other.constants = {name: next(own_tensors) for name in pack.constants}
    other.optimizer = copy(pack.optimizer)
    other.optimizer.joins_gradients = True
    buckets = pack.optimizer.rule_buckets
    factor, scale, num_steps, *rest = numbers
    other.optimizer.num_steps = num_steps.clone()  # type: ignore[assignment]
    steps, own_numbers = iter(rest[: len(buckets)]), iter(rest[len(buckets) :])
    other.optimizer.buckets = [bucket.holding(own_tensors, own_numbers, next(steps)) for bucket in buckets]
    return other, factor, scale


def _changed_in(pack: Ensemble) -> Iterable[Tensor]:
    """What a step has put in the place of something else, for `_take_over`."""
    yield from pack.constants.values()
    if pack.measures_norm:
        assert pack.grad_norm is not None
        yield pack.grad_norm
    for bucket in pack.optimizer.rule_buckets:
        yield from (bucket.last_lr, *(bucket.numbers[name] for name in bucket.advanced))


def _take_over(pack: Ensemble, changed: Iterable[Tensor]) -> None:
    """Bring a pack that holds the tensors of a step to where the step has ended."""
    results = iter(changed)
    pack.constants = dict(zip(pack.constants, islice(results, len(pack.constants)), strict=True))
    if pack.measures_norm:
        pack.grad_norm = next(results)
    pack.optimizer.num_steps += 1
    for bucket in pack.optimizer.rule_buckets:
        bucket.num_steps += 0 if pack.optimizer.unused.issuperset(bucket.shapes) else 1
        bucket.last_lr = next(results)
        bucket.numbers |= {name: next(results) for name in bucket.advanced}
