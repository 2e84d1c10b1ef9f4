"""A trial: its configuration, its identity and its place in a sweep."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.config.schema import TrialConfig
from bench.config.sweep import RAW_LOSS, Stage
from bench.runs.folders import ResultsFolder
from bench.runs.identity import code_fingerprint, run_id
from bench.runs.schema import Fingerprint


@dataclass(frozen=True)
class Trial:
    """One cell of a sweep, ready to train.

    Attributes:
        config: the validated configuration.
        data_fingerprint: SHA-256 of the task's data, part of the identity.
        sweep: the sweep's name, None outside a sweep.
        cell: the swept keys with their values here.
        replicate: which of several independent searches it belongs to.
        stage: whether it looks for a good cell, chooses among the best of them, or shows the chosen one on fresh seeds.
        objective: what its search goes by.
    """

    config: TrialConfig
    data_fingerprint: str
    sweep: str | None
    cell: Mapping[str, Any]
    replicate: int = 0
    stage: Stage = "tuning"
    objective: str = RAW_LOSS

    @cached_property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(data=self.data_fingerprint, code=code_fingerprint(self.config))

    @cached_property
    def run_id(self) -> str:
        return run_id(self.config.mapping, self.fingerprint)

    def folder(self, results_dir: Path) -> Path:
        """Where the trial's run is stored."""
        return ResultsFolder(results_dir).run(self.config.task.name, self.config.optimizer.name, self.run_id)
