"""What the terminal and the page say first: who is better and worse, and budgets below a task's own."""

from pathlib import Path

import pytest

from bench.config.folders import find_conf_dir
from bench.report.__main__ import main
from bench.report.budgets import describe_short_budgets
from tests.report import synthetic
from tests.report.pages import findings

MLP = {"_target_": "tasks.mlp.MLPTask"}  # its yaml asks for 500 steps


@pytest.mark.slow
def test_a_budget_below_the_tasks_own_is_said_and_a_decided_comparison_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {**MLP, "steps": 300}
    for seed in range(4):
        for optimizer, final in (("adamw", 0.2), ("lion", 0.8)):
            synthetic.write_run(tmp_path / "in", optimizer=optimizer, seed=seed, final=final, task_config=own)
    assert main([str(tmp_path / "in")]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("1 comparison with adamw: 1 worse. Worse: lion on mlp. One search each, or none")
    assert last.startswith("report: ")
    page = (tmp_path / "in" / "report" / "report.md").read_text(encoding="utf-8")
    assert "Fewer steps than the task's own: mlp 300 of 500." in page


@pytest.mark.parametrize("steps", [300, 499, 500, 600])
def test_a_budget_is_short_below_the_tasks_own_only(tmp_path: Path, steps: int) -> None:
    for seed in range(2):
        synthetic.write_run(tmp_path, seed=seed, task_config={**MLP, "steps": steps})
    said = describe_short_budgets(findings(tmp_path).used, find_conf_dir())
    assert [f"mlp {steps} of 500." in text for text in said] == [True] * (steps < 500)
