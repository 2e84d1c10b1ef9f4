"""`tracker=tensorboard`: scalars and hyperparameters for `tensorboard --logdir results/tensorboard`."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from bench.jobs.trackers.metrics import name_of
from bench.runs.schema import Status
from bench.runs.trial import Trial


class TensorBoard:
    """Event files in `results_dir/tensorboard/<optimizer>-<task>-<run_id>/`, begun anew with the trial.

    Args:
        trial: what is mirrored.
        folder: the results folder.
    """

    def __init__(self, trial: Trial, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = folder / "tensorboard" / f"{trial.config.optimizer.name}-{trial.config.task.name}-{trial.run_id}"
        shutil.rmtree(path, ignore_errors=True)
        self.hyperparameters = {"name": name_of(trial, None), "seed": trial.config.seed}
        self.hyperparameters |= {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in trial.config.optimizer.hyperparameters.items()
        }
        self.writer = SummaryWriter(str(path))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if name != "train/step":
                self.writer.add_scalar(name, value, step)

    def finish(self, summary: Mapping[str, float | str | None], status: Status) -> None:
        """The figures become metrics of the hyperparameters' table."""
        figures = {f"summary/{name}": value for name, value in summary.items() if isinstance(value, int | float)}
        self.writer.add_hparams(self.hyperparameters, figures, run_name=".")
        self.writer.close()
