"""The tables that end a job."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median

from rich.console import Console

from bench.config.sweep import BEST, RAW_LOSS, STEPS
from bench.errors import count_of
from bench.jobs.packing import structure
from bench.jobs.plan import Plan, open_edges
from bench.jobs.tables import print_line, print_table, short_names
from bench.runs.objective import edge_of_range, rank_cells, split_replicates
from bench.runs.schema import Run

MAX_ROWS = 40


def print_summary(plan: Plan, runs: Sequence[Run]) -> None:
    """One run in full, or a sweep by cell."""
    console = Console()
    if len(runs) == 1:
        _print_run(plan, runs[0], console)
    else:
        _print_sweep(plan, runs, console)
    for run in runs:
        if run.summary.message and len(runs) <= MAX_ROWS:
            print_line(f"{run.run_id} {run.status}: {run.summary.message}", console)


def _print_run(plan: Plan, run: Run, console: Console) -> None:
    """The figures of a single run."""
    summary, trial = run.summary, plan.trials[0].config
    target = trial.task.target
    sign = "<=" if target.mode == "min" else ">="
    was_there = ", stored before: nothing was trained (force=true trains again)" if run.run_id in plan.finished else ""
    print_line(f"{trial.optimizer.name} on {trial.task.name}: {run.status}{was_there}", console)
    share = _times(summary.optimizer_share, 100)
    finals = {name: value for name, value in summary.figures.items() if name.startswith("final_")}
    figures = {
        **{name.replace("_", " ", 1): value for name, value in finals.items()},
        f"lowest val_loss {_where_evaluated(plan)}": summary.best_val_loss,
        "at step": summary.best_step,
        f"steps to {target.metric} {sign} {target.value:g}": _steps(summary.steps_to_target),
        "seconds to target": _steps(summary.seconds_to_target),
        "ms per step": _times(summary.step_seconds, 1000),
        "of which the optimizer": "-" if share is None else f"{share:.3g} %",
        "training seconds": summary.train_seconds,
    }
    print_table([{"figure": name, "value": value} for name, value in figures.items()], console)
    print_line(f"run: {run.folder}", console)


def _where_evaluated(plan: Plan) -> str:
    """What evaluations while training read, which may be less than the whole split of the final ones."""
    config = plan.trials[0].config
    task = plan.tasks.get(config.task, config.device)
    some, whole = getattr(task, "num_eval", 0), getattr(task, "num_val", 0)
    return f"on {some:,} of {whole:,} examples" if some < whole else "while training"


def _print_sweep(plan: Plan, runs: Sequence[Run], console: Console) -> None:
    """A row per cell, seeds averaged, best first, search by search; then what the table cannot say."""
    searches, by = split_replicates(runs), plan.sweep.objective
    cells = [(number, *cell) for number, search in searches.items() for cell in rank_cells(search, by)]
    trial = plan.trials[0].config
    what = "the best on fresh seeds" if plan.stage == "fresh" else f"sweep {plan.sweep.name}"
    finalists = ", those on more seeds first" if len({len(seeds) for _, _, seeds in cells}) > 1 else ""
    order = f"by {_name(by)}, mean over seeds{finalists}"
    print_line(f"{trial.optimizer.name} on {trial.task.name}, {what}, {order}", console)
    rows = [
        {
            **({"search": number} if len(searches) > 1 else {}),
            **_describe_cell(by, objective, seeds, trial.task.target.metric),
        }
        for number, objective, seeds in cells[:MAX_ROWS]
    ]
    print_table(rows, console)
    if len(cells) > MAX_ROWS:
        print_line(f"{len(cells) - MAX_ROWS} more cells", console)
    print_line(f"runs: {plan.session.results_dir / trial.task.name / trial.optimizer.name}", console)
    for warning in edge_warnings(plan, runs):
        print_line(warning, console, style="yellow")


def _name(objective: str) -> str:
    if objective == STEPS:
        return "steps to target"
    return f"final {f'{BEST} {RAW_LOSS}' if objective == BEST else objective}"


def _describe_cell(by: str, objective: float, seeds: Sequence[Run], metric: str) -> dict[str, object]:
    """A row of the sweep's table; `metric`, the target's, is shown where it is not the loss that ranks."""
    cell = seeds[0].cell
    statuses = [run.status for run in seeds]
    row: dict[str, object] = {name: cell[key] for key, name in short_names(list(cell)).items()}
    row[f"mean {_name(by)}" if by == STEPS else _name(by)] = objective if math.isfinite(objective) else None
    if metric != by:
        finals = [run.summary.figures.get(f"final_{metric}") for run in seeds]
        measured = [value for value in finals if value is not None]
        row[f"median {metric}"] = median(measured) if len(measured) == len(seeds) else None
    row["steps to target"] = median(_steps(run.summary.steps_to_target) for run in seeds)
    row["seeds done"] = f"{statuses.count('completed') + statuses.count('reached')}/{len(seeds)}"
    if "diverged" in statuses:
        row["diverged"] = statuses.count("diverged")
    return row


def _steps(value: float | None) -> float:
    """Steps or seconds to the target, inf where it was never met."""
    return math.inf if value is None else value


def edge_warnings(plan: Plan, runs: Sequence[Run]) -> list[str]:
    """A sentence for each key with an end of whose values or range the best cell sits: the true best may lie beyond."""
    objective, best = rank_cells(runs, plan.sweep.objective)[0]
    if not math.isfinite(objective):
        return ["No cell trained every seed to the end."]
    if plan.stage != "tuning":
        return []
    return list(_search_edges(plan, best[0]) if plan.sweep.search else _grid_edges(plan, runs, best[0]))


def _grid_edges(plan: Plan, runs: Sequence[Run], best: Run) -> Iterator[str]:
    for key, beyond in open_edges(plan, runs).items():
        value = best.cell[key]
        side, direction = ("lower", "smaller") if beyond < value else ("upper", "larger")
        hint = "" if plan.sweep.grow else " (sweep.grow=true does)"
        yield f"The best {key}={value:g} sits on the {side} edge of its axis: try {direction} values too{hint}."


def _search_edges(plan: Plan, best: Run) -> Iterator[str]:
    for name, bounds in (plan.trials[0].config.optimizer.search_space or {}).items():
        value = best.cell[f"optimizer.{name}"]
        if bounds.low is None or bounds.high is None or not isinstance(value, int | float):
            continue
        if side := edge_of_range(value, bounds.low, bounds.high):
            yield f"The best optimizer.{name}={value:g} lies at the {side} end of its search_space: widen it there."


def print_plan(plan: Plan) -> None:
    """What is about to be done in one stage."""
    console = Console()
    print_line(_headline(plan), console)
    for key in sorted(plan.absent if plan.stage == "tuning" else ()):
        print_line(f"  {key}: not applicable to {plan.trials[0].config.optimizer.name}", console)
    if plan.finished:
        print_line(f"  {len(plan.finished)} already finished, {len(plan.missing)} to train", console)
    packs, workers = plan.packing.packs, plan.packing.workers
    sizes = sorted({len(pack.trials) for pack in packs}, reverse=True)
    if packs:
        estimate = f", about {plan.packing.seconds:.0f} s" if plan.packing.seconds > 0 else ""
        side_by_side = f", {workers} side by side" if workers > 1 else ""
        size = " or ".join([*map(str, sizes[:-1]), count_of(sizes[-1], "trial")])
        compiled = "" if plan.mapping["compile"] == "none" else f", compile={plan.mapping['compile']}"
        print_line(f"  {count_of(len(packs), 'pack')} of {size}{side_by_side}{compiled}{estimate}", console)
    for reason in sorted(set(_reasons_alone(plan))):
        print_line(f"  {reason}", console)


def _reasons_alone(plan: Plan) -> Iterator[str]:
    """Why trials of a plan with several train alone; later stages have the same reasons."""
    alike = Counter(structure(trial.config) for trial in plan.trials)
    is_first = plan.stage == "tuning" and not plan.growth
    for pack in plan.packing.packs if is_first and len(plan.trials) > 1 else ():
        if len(pack.trials) > 1:
            continue
        if pack.reason:
            yield f"one by one: {pack.reason}"
        elif alike[structure(pack.trials[0].config)] == 1:
            yield "one by one: no other trial has the same structure"
        elif plan.session.pack_size == 1:
            yield "one by one: pack_size=1"
        else:
            yield "each alone, measured to be as fast as in packs; pack_size=N trains N together"


def _headline(plan: Plan) -> str:
    """The stage in a line, with its number of trials."""
    if plan.stage == "tuning" and plan.growth:
        return f"the grid grows: {plan.growth[-1]}: {count_of(len(plan.trials), 'cell')} more"
    if plan.stage == "tuning":
        factors = [f"{key} ({len(values)})" for key, values in plan.sweep.axes.items() if key not in plan.absent]
        if search := plan.sweep.search:
            factors.insert(0, f"{count_of(search.replicates, 'search')} of {count_of(search.num_points, 'point')}")
        return f"sweep {plan.sweep.name}: {' x '.join(factors) or 'no axis'}: {count_of(len(plan.trials), 'cell')}"
    which = "the best cell" if plan.stage == "fresh" else "the finalists"
    each = f"{which} of each search" if plan.sweep.search else which
    seeds = count_of(len(plan.sweep.seeds(plan.stage)), "fresh seed" if plan.stage == "fresh" else "more seed")
    return f"then {each} again on {seeds}: {count_of(len(plan.trials), 'trial')}"


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
