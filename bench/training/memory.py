"""Keeping freed memory in the process, where handing it back costs more than it saves."""

import ctypes
import ctypes.util
from functools import cache

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # <malloc.h>
LARGEST_INT = 2**31 - 1


@cache
def keep_freed_memory() -> None:
    """Tell glibc not to return freed memory to the system; elsewhere do nothing.

    Every step of a pack on a CPU allocates and frees the same megabytes. By default glibc unmaps and refaults them each
    time, which made steps of `mlp` packs 1.2 to 1.6 times slower (scripts/pack_throughput.py measures them).
    """
    name = ctypes.util.find_library("c")
    mallopt = getattr(ctypes.CDLL(name), "mallopt", None) if name else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, LARGEST_INT)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the device or of the machine, did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
