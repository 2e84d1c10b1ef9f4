"""How many threads a step gets on a CPU: as many as it has work for, so that a busy core costs the rest nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

FLOPS_PER_THREAD = 64e6  # of a trial's step, some milliseconds: below, threads wait for each other at every kernel


@contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Let torch use this many threads and no more than it had; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(count or before, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for(flops: float, available: int) -> int:
    """One thread for each 64 million floating-point operations of a trial's step, at least one.

    Counted and not timed: a choice that depends on what else the machine does would move the last bits of results.
    """
    return max(1, min(available, int(flops // FLOPS_PER_THREAD)))
