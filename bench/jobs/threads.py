"""How many threads a step gets on a CPU: as many as it has work for, so that a busy core costs the rest nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bench.config.schema import TrialConfig
from bench.training.batches import IndexStream
from bench.training.compiling import eagerly
from bench.training.components import Task
from bench.training.model import autocast, build_model
from bench.training.seeds import make_generator

FLOPS_PER_THREAD = 64e6  # of a trial's gradient, some milliseconds; with less, threads wait for each other too often


@contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Let torch use this many threads and no more than it had; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(count or before, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def most_threads(available: int, num_trials: int, workers: int | str | None) -> int:
    """The threads that are left for a trial where others of its plan train beside it, two or more in each process.

    Two packs on a thread each get more done than one after the other on two, whose threads wait for each other. What
    was asked for as `workers` counts instead of the machine's threads; those of a cluster have their own.
    """
    if isinstance(workers, str):
        return available
    side_by_side = min(available if workers is None else workers, num_trials // 2)
    return max(1, available // max(1, side_by_side))


def threads_for(flops: float, available: int) -> int:
    """One thread for each 64 million floating-point operations of a trial's gradient, at least one of those available.

    Counted and not timed: a choice that depends on what else the machine does would move the last bits of results.
    """
    return max(1, min(available, int(flops // FLOPS_PER_THREAD)))


class _FlopCounter(TorchDispatchMode):
    """As torch's own `FlopCounterMode`, which would import all of torch's compiler."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func.overloadpacket)) is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=result)
        return result


def count_flops(task: Task, config: TrialConfig) -> float:
    """Floating-point operations of a gradient, at least 1: matrix products, convolutions and attention count."""
    model = build_model(task, config).train()
    index = IndexStream(task, [make_generator(config.seed, config.task.name, "data")], config.device).next()[0]
    batch = task.batch("train", index.chunk(config.task.accumulate)[0])
    with eagerly(), _FlopCounter() as counter:
        with autocast(config):
            loss = task.loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
    return max(1.0, float(counter.flops * config.task.accumulate))
