"""Commands in processes of their own, forked from one that has imported what they import: they start in a moment."""

import itertools
import multiprocessing
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HEAVY = ["hydra", "matplotlib.figure", "pandas", "pyarrow.parquet", "pydantic", "scipy.stats", "sklearn.datasets"]
SYMPY = "torch.fx.experimental.symbolic_shapes"  # imports it: torch does so at the first packed evaluation
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([*HEAVY, SYMPY, "torch", "pytest"])  # nothing of ours: it may come from a wheel


class Command:
    """`python -m args` in a folder; `before` is called in the new process, ahead of the module, `first` is its path."""

    def __init__(
        self,
        args: Sequence[str],
        *,
        folder: Path,
        output: Path,
        first: Sequence[Path] = (),
        before: Callable[[], None] | None = None,
    ) -> None:
        self.args = args
        self.out, self.err = output / "out", output / "err"
        path = [str(folder), *map(str, first), *sys.path]
        self.process = SERVER.Process(target=self._run, args=(args, folder, output, path, {**os.environ}, before))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    @staticmethod
    def _run(
        args: Sequence[str],
        folder: Path,
        output: Path,
        path: list[str],
        environment: dict[str, str],
        before: Callable[[], None] | None,
    ) -> None:
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT), descriptor)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:], sys.argv = path, [*args]
        if before:
            before()
        runpy.run_module(args[0], run_name="__main__", alter_sys=True)

    @property
    def running(self) -> bool:
        return self.process.is_alive()

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def finish(self, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Its exit code and what it has written, once it ends."""
        self.process.join(timeout)
        assert not self.running, f"{self.args} still runs after {timeout} s"
        code = self.process.exitcode
        assert code is not None
        return subprocess.CompletedProcess(self.args, code, self.out.read_text(), self.err.read_text())


TRAINING_STEP = "bench.training.loop.TrainingLoop._take_step"


def at_call(place: str, number: int, act: Callable[[], None]) -> None:
    """Let something happen in this process ahead of the n-th call of a function; made for `before`."""
    owner, _, name = place.rpartition(".")
    function = pkgutil.resolve_name(place)
    calls = itertools.count(1)

    def act_first(*args: Any, **options: Any) -> Any:
        if next(calls) == number:
            act()
        return function(*args, **options)

    setattr(pkgutil.resolve_name(owner), name, act_first)
