"""What happens once a whole Hydra run or multirun is over."""

import logging
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from bench.runs.folders import ResultsFolder

log = logging.getLogger(__name__)


class ReportAtEnd(Callback):
    """Writes one report on the results folder, after all jobs, where `report=true` asks for it."""

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        self._write(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        self._write(config)

    def _write(self, config: DictConfig) -> None:
        if not config.report or config.dry_run:
            return
        from bench.jobs.trackers.whole_job import track_report
        from bench.report import write_report

        results_dir = Path(config.results_dir)
        page = write_report([results_dir], ResultsFolder(results_dir).report)
        log.warning("report: %s", page)
        track_report(OmegaConf.to_container(config.tracker, resolve=True), results_dir, page.parent)
