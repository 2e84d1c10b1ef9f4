"""What README and CONTRIBUTING tell a user to type works as it stands, from an empty folder, with the built wheel."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Command

pytestmark = pytest.mark.slow

Blocks = dict[str, dict[str, str]]
Follow = Callable[[list[str], str], str]


@pytest.fixture
def follow(blocks: Blocks, start: Callable[..., Command], site: Path, tmp_path: Path) -> Follow:
    """Write the files that CONTRIBUTING shows, then run the commands that it shows, and return what they print."""

    def run(files: list[str], commands: str) -> str:
        shown, output = blocks["CONTRIBUTING.md"], ""
        for name in files:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(shown[name], encoding="utf-8")
        for command in shown[commands].splitlines():
            program, flag, *args = shlex.split(command)
            assert (program, flag) == ("python", "-m")
            done = start(*args, first=[site]).finish()
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            output += done.stdout
        return output

    return run


def read_runs(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in folder.glob("results/*/*/*/run.json")]


def test_own_optimizer_trains_can_be_packed_and_conforms(follow: Follow, tmp_path: Path) -> None:
    files = ["optimizers/mine.py", "conf/optimizer/mine.yaml"]
    output = follow(files, "optimizer")
    runs = read_runs(tmp_path)
    assert [run["status"] for run in runs] == ["completed"] * 7  # the first run is one of the sweep's cells
    assert max(run["summary"]["final_val_accuracy"] for run in runs) > 0.9
    assert "7 cells" in output
    assert "one by one" not in output


def test_own_optimizer_is_shown_in_25_lines_and_alike_in_both_documents(blocks: Blocks) -> None:
    for name in ("optimizers/mine.py", "conf/optimizer/mine.yaml", "optimizer"):
        assert blocks["README.md"][name] == blocks["CONTRIBUTING.md"][name]
        assert len(blocks["README.md"][name].splitlines()) <= 25


def test_own_task_trains_to_its_target_and_can_be_packed(follow: Follow, tmp_path: Path) -> None:
    files = ["tasks/cancer.py", "conf/task/cancer.yaml"]
    output = follow(files, "task")
    runs = read_runs(tmp_path)
    assert [run["status"] for run in runs] == ["completed"] * 7
    (single,) = (run for run in runs if run["sweep"] is None)
    assert single["summary"]["steps_to_target"] is not None
    assert "one by one" not in output
