"""Tiny trainings on one thread, and tests that start processes marked `slow`."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Command

os.environ["OMP_NUM_THREADS"] = "1"  # fastest for tiny models, here and in the processes that tests start


def pytest_collection_finish() -> None:
    """What is imported by now stays: walking it again at every collection would take a fifth of the tests' time."""
    gc.freeze()


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line adds the working folder to it; the next test's workers would look for our packages there."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(autouse=True)
def only_slow_tests_start_python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pytest -m "not slow"` stays quick: a Python of its own costs a test seconds."""
    if request.node.get_closest_marker("slow"):
        return
    start = subprocess.Popen.__init__

    def refuse(self: Any, args: Any, *rest: Any, **options: Any) -> None:
        assert sys.executable not in args, "a test that starts Python is marked `slow`"
        start(self, args, *rest, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)


@pytest.fixture
def start(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Command]]:
    """`start("bench", "task=mlp", ...)` is this command in a process of its own, in the test's folder."""
    assert request.node.get_closest_marker("slow"), "a test that starts Python is marked `slow`"
    commands: list[Command] = []

    def run(*args: str, **options: Any) -> Command:
        output = tmp_path_factory.mktemp("output")
        commands.append(Command(args, **{"folder": tmp_path, "output": output, **options}))
        return commands[-1]

    yield run
    for command in commands:
        command.kill()
