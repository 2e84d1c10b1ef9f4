"""The report's words do not contradict each other, and count as English does."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from bench.analysis.pairs import SEARCH, SEED
from bench.errors import count_of
from bench.report.detail_tables import noise_table
from bench.report.sentences import lead
from tests.report import synthetic
from tests.report.pages import findings


def test_one_is_singular() -> None:
    assert [count_of(count, unit) for unit in (SEED, f"paired {SEARCH}") for count in (1, 2.0)] == [
        "1 seed", "2 seeds", "1 paired search", "2 paired searches",
    ]  # fmt: skip


def test_who_is_compared_on_fresh_seeds_and_who_is_not_is_said_of_each(tmp_path: Path) -> None:
    for optimizer in ("adamw", "lion"):
        for seed in range(2):
            for lr in (1e-3, 3e-3):
                synthetic.write_run(tmp_path, optimizer=optimizer, lr=lr, seed=seed, sweep="search")
    for seed in (100, 101):
        synthetic.write_run(tmp_path, seed=seed, sweep="fresh_seeds", stage="fresh")
    notes = [note for note in findings(tmp_path).notes if "fresh" in note]
    assert [note.partition(" use ")[0].partition(":")[0] for note in notes] == [
        "Final comparisons of adamw on mlp", "No fresh seeds for lion on mlp",
    ]  # fmt: skip


def test_several_baselines_do_not_read_as_one(tmp_path: Path) -> None:
    for task, baseline in (("mlp", "adamw"), ("cifar", "adam")):
        for optimizer in (baseline, "lion"):
            synthetic.write_run(tmp_path, task=task, optimizer=optimizer)
    assert lead(findings(tmp_path)).startswith("2 comparisons with the baseline of each task (adam, adamw): 2 too few.")


@pytest.mark.parametrize(("sd_seeds", "shown"), [(0.1, "below noise"), (0.0, "0")])
def test_a_part_of_the_variance_that_was_cut_off_at_zero_is_not_shown_as_zero(sd_seeds: float, shown: str) -> None:
    row = {"setting": "mlp", "optimizer": "lion", "sd_searches": 0.0, "sd_seeds": sd_seeds, "detectable": 0.1}
    table = noise_table(SimpleNamespace(verdicts=pd.DataFrame([row])))  # type: ignore[arg-type]
    assert table.rows[0][table.headers.index("sd between searches")] == shown
    assert table.numeric[table.headers.index("sd between searches")]
