"""fairstep: does this optimizer really beat a well-tuned AdamW?

A notebook needs `bench.plan`, `bench.train`, `bench.load_runs`, `bench.load_model`, `bench.analyse` and
`bench.plot`; `help` tells of each. They are imported at their first use, so that `import bench` costs nothing.
"""

import importlib
import os
from typing import Any

if "OMP_WAIT_POLICY" not in os.environ:  # before torch: threads that spin for long starve where a core is busy,
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # and those that sleep at once take twice as long on idle ones
__version__ = "0.2.0.dev0"
__all__ = ["analyse", "load_model", "load_runs", "plan", "plot", "train"]


def __getattr__(name: str) -> Any:
    if name in ("analysis", "plot"):
        return importlib.import_module(f"bench.{name}")
    if name in __all__:
        return getattr(importlib.import_module("bench.api"), name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
