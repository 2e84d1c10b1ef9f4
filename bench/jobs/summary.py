"""The tables that end a job."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.jobs.objective import rank_cells
from bench.jobs.packing import Pack
from bench.jobs.plan import Plan
from bench.runs.schema import Run

MAX_ROWS = 40


def print_summary(plan: Plan, runs: Sequence[Run]) -> None:
    """One run in full, or a sweep by cell."""
    console = Console()
    if len(runs) == 1:
        console.print(_run_table(plan, runs[0]))
    else:
        console.print(_sweep_table(plan, runs))
        for warning in edge_warnings(plan, runs):
            console.print(warning, style="yellow", highlight=False)
    for run in runs:
        if run.summary.message and len(runs) <= MAX_ROWS:
            console.print(f"{run.run_id} {run.status}: {run.summary.message}", markup=False, highlight=False)


def _run_table(plan: Plan, run: Run) -> Table:
    """The figures of a single run."""
    summary, trial = run.summary, plan.trials[0].config
    target = trial.task.target
    sign = "<=" if target.mode == "min" else ">="
    table = Table(title=f"{trial.optimizer.name} on {trial.task.name}: {run.status}")
    table.add_column("figure")
    table.add_column("value", justify="right", overflow="fold")
    figures = {
        "final validation loss": _number(summary.final_val_loss),
        "best validation loss": f"{_number(summary.best_val_loss)} at step {summary.best_step}",
        f"steps to {target.metric} {sign} {target.value:g}": _number(summary.steps_to_target, "never"),
        "seconds to target": _number(summary.seconds_to_target, "never"),
        "ms per step": _number(_times(summary.step_seconds, 1000)),
        "of which the optimizer": _number(_times(summary.optimizer_share, 100)) + " %",
        "training seconds": _number(summary.train_seconds),
        "run": str(run.folder),
    }
    for name, value in figures.items():
        table.add_row(name, value)
    return table


def _sweep_table(plan: Plan, runs: Sequence[Run]) -> Table:
    """A row per cell, seeds averaged, best first."""
    cells = rank_cells(runs)
    axes = list(runs[0].cell)
    name, task = plan.trials[0].config.optimizer.name, plan.trials[0].config.task.name
    title = f"{name} on {task}, sweep {plan.sweep.name}: the objective is the final validation loss, mean over seeds"
    table = Table(title=title, caption=f"runs in {plan.session.results_dir / task / name}")
    short = [key.rpartition(".")[2] for key in axes]
    names = short if len(set(short)) == len(short) else axes
    for column in (
        *names,
        "final val_loss",
        "seeds",
        "completed",
        "diverged",
        "median steps to target",
    ):
        table.add_column(column, justify="right", overflow="fold")
    for objective, seeds in cells[:MAX_ROWS]:
        statuses = [run.status for run in seeds]
        steps = [math.inf if run.summary.steps_to_target is None else run.summary.steps_to_target for run in seeds]
        counts = (str(len(seeds)), str(statuses.count("completed")), str(statuses.count("diverged")))
        values = [_number(seeds[0].cell[key]) for key in axes]
        table.add_row(*values, _number(objective), *counts, _number(median(steps), "never"))
    if len(cells) > MAX_ROWS:
        table.add_row(*[f"{len(cells) - MAX_ROWS} more"] + [""] * (len(table.columns) - 1))
    return table


def edge_warnings(plan: Plan, runs: Sequence[Run]) -> list[str]:
    """A sentence for each grid axis on whose edge the best cell sits: the true best may lie beyond."""
    objective, best = rank_cells(runs)[0]
    if not math.isfinite(objective):
        return ["No cell trained every seed to the end."]
    warnings = []
    for key, values in plan.sweep.axes.items():
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if key == "seed" or key in plan.absent or len(numbers) < 3 or len(numbers) < len(values):
            continue
        value = best[0].cell[key]
        if value in (min(numbers), max(numbers)):
            side, direction = ("lower", "smaller") if value == min(numbers) else ("upper", "larger")
            warnings.append(
                f"The best {key}={value:g} sits on the {side} edge of its axis: try {direction} values too."
            )
    return warnings


def print_plan(plan: Plan, packs: Sequence[Pack], seconds: float, workers: int) -> None:
    """What is about to be done."""
    console = Console()
    axes = " x ".join(f"{key} ({len(values)})" for key, values in plan.sweep.axes.items() if key not in plan.absent)
    console.print(f"sweep {plan.sweep.name}: {axes or 'search'}: {len(plan.trials)} cells", highlight=False)
    for key in sorted(plan.absent):
        console.print(f"  {key}: not applicable to {plan.trials[0].config.optimizer.name}", highlight=False)
    if plan.finished:
        console.print(f"  {len(plan.finished)} already finished, {len(plan.missing)} to train", highlight=False)
    sizes = sorted({len(pack.trials) for pack in packs}, reverse=True)
    if packs:
        estimate = f", about {seconds:.0f} s" if seconds > 0 else ""
        side_by_side = f", {workers} side by side" if workers > 1 else ""
        text = f"  {len(packs)} packs of {' or '.join(map(str, sizes))} trials{side_by_side}{estimate}"
        console.print(text, highlight=False)
    for reason in sorted({pack.reason for pack in packs if pack.reason}):
        console.print(f"  one by one: {reason}", highlight=False)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _number(value: Any, missing: str = "-") -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return missing
    return f"{value:.6g}" if isinstance(value, float) else str(value)
