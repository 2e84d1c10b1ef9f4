"""`compile=auto`: whether the work of a plan pays for compiling its steps."""

from collections.abc import Sequence
from pathlib import Path

from bench.errors import ConfigError
from bench.jobs.calibration import Calibration
from bench.jobs.packing import group_by_structure
from bench.runs.folders import ResultsFolder
from bench.runs.trial import Trial
from bench.training.components import TaskShelf
from bench.training.rehearsal import rehearse

WORTH_FLOPS = 1e13  # for each structure, which is compiled by itself: some three minutes; see scripts/compile_pays.py


def pays_to_compile(trials: Sequence[Trial], tasks: TaskShelf, results_dir: Path) -> bool:
    """Whether these trials, configured with compile=step, can be compiled and are enough work for it.

    Counted and not timed: compiling moves the last bits of results, which may not depend on how busy a machine is.
    """
    calibration = Calibration(ResultsFolder(results_dir).calibration)
    groups = [(tasks.get(group[0].config.task, group[0].config.device), group) for group in group_by_structure(trials)]
    work = [
        calibration.gradient_flops(task, group[0]) * group[0].config.task.steps * len(group) for task, group in groups
    ]
    if sum(work) < WORTH_FLOPS * len(groups):
        return False
    try:
        for task, group in groups:
            rehearse(task, group[0].config)
    except ConfigError:  # also of what is not the compiler's fault, which the uncompiled trials tell in their turn
        return False
    return True
