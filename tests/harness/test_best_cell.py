"""Terminal, later stages and report choose the same cell, and warn of the same edges."""

import json
from pathlib import Path

import pytest

from bench.analysis.comparability import prepare
from bench.analysis.load import load
from bench.analysis.selection import choose_cells
from bench.analysis.sensitivity import edge_flags, sweep_cells
from bench.runs.folders import read_run
from bench.runs.objective import edge_of, objective_of, rank, rank_cells
from tests.report import synthetic

LOSSES = {1e-4: [1.0, 1.0, 1.9], 1e-3: [1.2, 1.2, 1.2]}


def write_cells(root: Path, losses: dict[float, list[float | None]], unfinished: str = "diverged") -> list[Path]:
    """Runs with these final losses by learning rate, one per seed; those of None ended otherwise."""
    folders = []
    for lr, values in losses.items():
        for seed, loss in enumerate(values):
            folder = synthetic.write_run(root, lr=lr, seed=seed, sweep="lr")
            run = json.loads((folder / "run.json").read_text())
            run["status"] = "completed" if loss is not None else unfinished
            run["summary"]["final_val_loss"] = 0.01 if run["status"] == "timeout" else loss
            (folder / "run.json").write_text(json.dumps(run))
            folders.append(folder)
    return folders


@pytest.mark.parametrize("unfinished", ["diverged", "timeout"])
@pytest.mark.parametrize(
    ("losses", "best"),
    [
        (LOSSES, 1e-3),  # the median would choose the other one
        ({1e-4: [1.0, 1.0, None], 1e-3: [1.2, 1.2, 1.2]}, 1e-3),
        ({1e-4: [0.1], 1e-3: [1.2, 1.3]}, 1e-3),
        ({1e-4: [0.1, None], 1e-3: [1.2]}, 1e-3),
    ],
)
def test_terminal_and_report_choose_the_same_cell(
    tmp_path: Path, losses: dict[float, list[float | None]], best: float, unfinished: str
) -> None:
    """A trial that ran out of time is none that has ended, whatever its loss was by then."""
    folders = write_cells(tmp_path, losses, unfinished)
    _, members = rank_cells([read_run(folder) for folder in folders])[0]
    assert members[0].cell == {"optimizer.lr": best}
    _, used, _ = prepare(load([tmp_path]).runs)
    assert len(used) == len(folders)
    assert json.loads(choose_cells(used)["cell"].item())["optimizer.lr"] == best


def test_report_warns_of_the_edge_that_the_best_cell_sits_on(tmp_path: Path) -> None:
    write_cells(tmp_path, {**LOSSES, 1e-2: [2.0, 2.0, 2.0]})
    _, used, _ = prepare(load([tmp_path]).runs)
    assert edge_flags(sweep_cells(used), {}).empty  # the median's best would sit on the lower one
    assert edge_of(1e-4, 1e-4, 1e-2) == "lower"
    assert edge_of(1e-2, 1e-4, 1e-2) == "higher"
    assert edge_of(0.0, 0.0, 1.0) is None


def test_fresh_seeds_of_version_0_1_are_those_of_the_objective(tmp_path: Path) -> None:
    folders = write_cells(tmp_path, {1e-3: [0.5, 0.5]})
    for seed, loss in ((100, 1.0), (101, 2.0)):
        folder = synthetic.write_run(tmp_path, seed=seed, sweep="fresh_seeds", final=loss)
        run = json.loads((folder / "run.json").read_text())
        run["summary"]["final_val_loss"] = loss
        del run["sweep"]["stage"], run["sweep"]["replicate"]
        (folder / "run.json").write_text(json.dumps(run))
        folders.append(folder)
    runs = [read_run(folder) for folder in folders]
    assert [run.stage for run in runs] == ["tuning", "tuning", "fresh", "fresh"]
    assert objective_of(runs) == 1.5


def test_equal_cells_keep_their_order() -> None:
    assert rank({"b": [1.0], "a": [1.0], "c": [0.5]}) == ["c", "b", "a"]
