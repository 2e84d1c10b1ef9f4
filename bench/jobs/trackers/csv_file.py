"""`tracker=csv`: one file per trial that grows while it trains, for `tail -f`, pandas or a spreadsheet."""

import csv
from collections.abc import Mapping
from pathlib import Path

from bench.runs.schema import Status
from bench.runs.trial import Trial


class CsvFile:
    """`results_dir/csv/<optimizer>-<task>-<run_id>.csv`, a row per evaluation. Begun anew with the trial.

    Args:
        trial: what is mirrored.
        folder: the results folder.
    """

    def __init__(self, trial: Trial, folder: Path) -> None:
        self.path = folder / "csv" / f"{trial.config.optimizer.name}-{trial.config.task.name}-{trial.run_id}.csv"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.rows: list[Mapping[str, float]] = []
        self.columns: list[str] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.rows.append(values)
        new = [name for name in values if name not in self.columns]
        self.columns += new
        with self.path.open("w" if new else "a", encoding="utf-8", newline="") as file:  # a new column changes the head
            writer = csv.DictWriter(file, self.columns)
            if new:
                writer.writeheader()
            writer.writerows(self.rows if new else self.rows[-1:])

    def finish(self, summary: Mapping[str, float | str | None], status: Status) -> None:
        """The figures of the whole trial stand in its `run.json`."""
