"""The one command for a person with a GPU runs to its end, tried on a CPU and without its compiler."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "scripts"
SMALL = ["--tasks", "rosenbrock", "--sizes", "1", "2", "--rounds", "1", "--steps", "2", "--device", "cpu"]


@pytest.mark.slow
def test_the_gpu_check_writes_its_table_and_finds_resume_and_replay_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    overrides = [f"results_dir={tmp_path / 'results'}"]
    monkeypatch.setattr(
        sys, "argv", ["gpu_check.py", *SMALL, "--out", str(tmp_path / "table.md"), "--override", *overrides]
    )
    with torch.compiler.set_stance("force_eager"):
        importlib.import_module("gpu_check").main()
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in (tmp_path / "table.md").read_text().splitlines()
    ]
    ways = [row[1:3] for row in cells if len(row) == 10 and row[0] == "rosenbrock"]
    assert ways == [["1", "none"], ["1", "step"], ["2", "none"], ["2", "step"]]
    exact = [row[1:] for row in cells if len(row) == 4 and row[0] == "rosenbrock"]
    assert exact == [["none", "0", "0"], ["step", "0", "0"]]
