"""`compile=auto`: whether the work of a plan pays for compiling its steps."""

from collections.abc import Sequence
from pathlib import Path

from bench.jobs.calibration import Calibration
from bench.jobs.packing import group_by_structure
from bench.runs.folders import ResultsFolder
from bench.runs.trial import Trial
from bench.training.components import TaskShelf

WORTH_FLOPS = 1e13  # for each structure, which is compiled by itself: some three minutes; see scripts/compile_pays.py


def pays_to_compile(trials: Sequence[Trial], tasks: TaskShelf, results_dir: Path) -> bool:
    """Whether these trials are enough work for compiling their steps.

    Counted and not timed: compiling moves the last bits of results, which may not depend on how busy a machine is.
    """
    calibration = Calibration(ResultsFolder(results_dir).calibration)
    work = [
        calibration.gradient_flops(tasks.get(first.config.task, first.config.device), first)
        * sum(trial.config.task.steps for trial in (first, *others))
        for first, *others in group_by_structure(trials)
    ]
    return sum(work) >= WORTH_FLOPS * len(work)
