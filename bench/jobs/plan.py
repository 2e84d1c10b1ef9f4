"""From a resolved configuration to a checked plan: which trials there are, which are done, which train together.

Everything that can be wrong with the input is found here, before anything is trained or written.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from bench.config.growth import MAX_GROWTH, beyond_edges
from bench.config.keys import default_of, has_key, refuse_axis, with_cell
from bench.config.optimizer import parse_optimizer
from bench.config.schema import TrialConfig, parse_trial, split_mapping
from bench.config.session import SessionConfig, parse_session
from bench.config.sweep import BEST, FRESH_SWEEP, RAW_LOSS, STAGES, STEPS, Cell, Stage, SweepConfig, expand, parse_sweep
from bench.errors import ConfigError
from bench.jobs.cluster import check_cluster
from bench.jobs.compiling import pays_to_compile
from bench.jobs.packing import group_by_structure
from bench.jobs.sizing import Packing, choose_packing
from bench.jobs.trackers.tracker import check_trackers
from bench.runs.objective import rank_cells, rank_replicates
from bench.runs.schema import Run
from bench.runs.store import Store
from bench.runs.trial import Trial
from bench.training.averaging import labels_of
from bench.training.components import TaskShelf, check_target
from bench.training.rehearsal import check_once, rehearse


@dataclass(frozen=True)
class Plan:
    """What a job is to do in one stage, and from its runs, what it is to do next.

    Attributes:
        mapping: the trial part of the resolved configuration, before a cell is put into it.
        absent: optional axes that the optimizer does not have.
        tasks: the loaded tasks.
        stage: looking for good cells, choosing among the best of them, or showing the chosen ones on fresh seeds.
        trials: every trial of the stage, in order.
        finished: the runs of those that need no training, by run id.
        growth: what was added to the grid so far, and why, a sentence for each round.
        is_known: False where the cells are not chosen yet: the first ones stand in, for their number and their cost.
    """

    session: SessionConfig
    sweep: SweepConfig
    mapping: Mapping[str, Any]
    absent: frozenset[str]
    tasks: TaskShelf
    stage: Stage
    trials: list[Trial]
    finished: dict[str, Run]
    is_known: bool = True
    growth: tuple[str, ...] = ()

    @property
    def missing(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.run_id not in self.finished]

    @cached_property
    def packing(self) -> Packing:
        """How the missing trials train together; measured at the first look."""
        return choose_packing(self.trials, self.missing, self.session, self.tasks)

    def follow(self, runs: Sequence[Run]) -> "Plan | None":
        """The plan of the next stage, None after the last.

        Args:
            runs: of this stage and those before it, all of them or some.
        """
        stored = {run.run_id for run in runs}
        is_known = self.is_known and all(trial.run_id in stored for trial in self.trials)
        if is_known and self.stage == "tuning" and (grown := _grow(self, runs)):
            return grown
        ranked = rank_replicates(runs, self.sweep.objective) if is_known else self._stand_ins()
        for stage in STAGES[STAGES.index(self.stage) + 1 :]:
            if cells := list(self.sweep.choose(stage, ranked)):
                return _make_stage(replace(self, stage=stage, is_known=is_known), cells)
        return None

    def stages(self) -> Iterator["Plan"]:
        """This stage and those after it, as far as what is stored tells their cells."""
        stage: Plan | None = self
        runs: list[Run] = []
        while stage is not None:
            yield stage
            runs += stage.finished.values()
            stage = stage.follow(runs)

    def _stand_ins(self) -> dict[int, list[Cell]]:
        """The cells of each replicate in the order in which they are asked for."""
        cells: dict[int, dict[str, Cell]] = {}
        for trial in self.trials:
            cell = {key: value for key, value in trial.cell.items() if key != "seed"}
            cells.setdefault(trial.replicate, {})[repr(cell)] = cell
        return {replicate: list(found.values()) for replicate, found in cells.items()}


def make_plan(mapping: Mapping[str, Any]) -> Plan:
    """Check a resolved configuration and look up what is already there.

    Raises:
        ConfigError: one line naming key, value and what is allowed.
    """
    trial_mapping, session_mapping = split_mapping(mapping)
    session = parse_session(session_mapping)
    check_trackers(session.tracker)
    if isinstance(session.workers, str):
        check_cluster(session.workers)
    sweep = parse_sweep(session_mapping["sweep"], trial_mapping["seed"])
    if trial_mapping["stop_at_target"] is True and sweep.objective == RAW_LOSS:
        sweep = sweep.model_copy(update={"objective": STEPS})
    parse_optimizer(trial_mapping["optimizer"])
    absent = [key for key in sweep.axes if not has_key(trial_mapping, key)]
    for key in absent:
        if key not in sweep.optional:
            refuse_axis(trial_mapping, key)
    if "auto" in sweep.axes.get("compile", []):
        raise ConfigError("sweep.axes.compile", "auto", "is for a whole sweep: compile=auto")
    plan = Plan(session, sweep, trial_mapping, frozenset(absent), TaskShelf(), "tuning", [], {})
    cells = list(_expand(plan))
    if not cells:
        raise ConfigError("sweep.exclude", sweep.exclude, "leaves no cell to train")
    return _choose_compile(plan, cells) if trial_mapping["compile"] == "auto" else _rehearsed(_make_stage(plan, cells))


def _rehearsed(plan: Plan) -> Plan:
    """The plan, of which each structure that is to be trained has taken a step. Raises ConfigError."""
    for alike in group_by_structure(plan.missing):
        rehearse(plan.tasks.get(alike[0].config.task, alike[0].config.device), alike[0].config)
    return plan


def _expand(plan: Plan) -> Iterator[tuple[int, Cell]]:
    """All cells of the first stage, with the replicates that they belong to."""
    space = plan.mapping["optimizer"].get("search_space")
    is_search = plan.sweep.search is not None and isinstance(space, Mapping)
    defaults = {name: default_of(plan.mapping, name) for name in space} if is_search else {}
    for replicate in range(plan.sweep.num_replicates):
        for cell in expand(plan.sweep, space, plan.absent, defaults, replicate):
            yield replicate, cell


def open_edges(plan: Plan, runs: Sequence[Run]) -> Cell:
    """By key on whose edge the best cell sits the value that would lie beyond it, where that is legal."""
    objective, best = rank_cells(runs, plan.sweep.objective)[0]
    if not math.isfinite(objective):
        return {}
    cell = best[0].cell
    tried = {
        key: list(dict.fromkeys([*plan.sweep.axes.get(key, ()), *(run.cell[key] for run in runs if key in run.cell)]))
        for key in cell
    }
    return {key: value for key, value in beyond_edges(tried, cell) if _is_legal(plan, {**cell, key: value})}


def _grow(plan: Plan, runs: Sequence[Run]) -> Plan | None:
    """The plan of what lies beyond the edges that best cells sit on, None where there is nothing to add."""
    if not plan.sweep.grow or len(plan.growth) == MAX_GROWTH:
        return None
    grow = _grow_one if isinstance(plan.sweep.grow, str) else _grow_all
    return grow(plan, runs)


def _grow_all(plan: Plan, runs: Sequence[Run]) -> Plan | None:
    """One more value beyond each edge that the best cell sits on, at all values of the other axes."""
    if not (added := open_edges(plan, runs)):
        return None
    axes = {key: [*values, added[key]] if key in added else values for key, values in plan.sweep.axes.items()}
    best = rank_cells(runs, plan.sweep.objective)[0][1][0].cell
    reason = ", ".join(f"{key}={value:g}, as the best sits at {best[key]:g}" for key, value in added.items())
    grown = replace(plan, sweep=plan.sweep.model_copy(update={"axes": axes}))
    return _add_cells(grown, list(_expand(grown)), runs, reason)


def _grow_one(plan: Plan, runs: Sequence[Run]) -> Plan | None:
    """One more value of one axis at those values of the others at which the best one sits on its edge."""
    key = str(plan.sweep.grow)
    rows: dict[str, list[Run]] = {}
    for run in runs:
        rows.setdefault(repr({name: value for name, value in run.cell.items() if name != key}), []).append(run)
    beyond = {row: open_edges(plan, members).get(key) for row, members in rows.items()}
    cells = [{**rows[row][0].cell, key: value} for row, value in beyond.items() if value is not None]
    reason = f"{key}, as the best sits on its edge at {len(cells)} of {len(rows)} values of the other axes"
    seeds = [{"seed": seed} if seed is not None else {} for seed in plan.sweep.axes.get("seed", [None])]
    return (
        _add_cells(plan, [(0, {**cell, **seed}) for cell in cells for seed in seeds], runs, reason) if cells else None
    )


def _add_cells(plan: Plan, cells: Sequence[tuple[int, Cell]], runs: Sequence[Run], reason: str) -> Plan:
    stored = {run.run_id for run in runs}
    stage = _make_stage(replace(plan, growth=(*plan.growth, reason)), cells)
    return replace(stage, trials=[trial for trial in stage.trials if trial.run_id not in stored])


def _is_legal(plan: Plan, cell: Cell) -> bool:
    """Whether the optimizer and the task take these values."""
    try:
        return bool(list(_make_trials(plan, [(0, cell)])))
    except ConfigError:
        return False


def _make_stage(plan: Plan, cells: Sequence[tuple[int, Cell]]) -> Plan:
    """The plan with the trials of these cells, and with those of them that are finished."""
    trials = list(_make_trials(plan, cells))
    store = Store(plan.session.results_dir)
    found = {} if plan.session.force else {trial.run_id: store.find_finished(trial) for trial in trials}
    finished = {run_id: run for run_id, run in found.items() if run is not None}
    return replace(plan, trials=trials, finished=finished)


def _choose_compile(plan: Plan, cells: Sequence[tuple[int, Cell]]) -> Plan:
    """The first stage of compile=auto: compiled or not as more of it is stored already, else as its work pays for."""
    plain, compiled = (
        _make_stage(replace(plan, mapping={**plan.mapping, "compile": choice}), cells) for choice in ("none", "step")
    )
    if len(plain.finished) != len(compiled.finished):
        return _rehearsed(max(plain, compiled, key=lambda stage: len(stage.finished)))
    if pays_to_compile(compiled.trials, plan.tasks, plan.session.results_dir):
        with suppress(ConfigError):  # also of what is not the compiler's fault, which `plain` tells in its turn
            return _rehearsed(compiled)
    return _rehearsed(plain)


def _make_trials(plan: Plan, cells: Sequence[tuple[int, Cell]]) -> Iterator[Trial]:
    checked: set[str] = set()
    name = FRESH_SWEEP if plan.stage == "fresh" else plan.sweep.name
    for replicate, cell in cells:
        config = parse_trial(with_cell(plan.mapping, cell))
        task = plan.tasks.get(config.task, config.device)
        check_target(config.task, task)
        check_once(config, checked)
        _check_objective(plan.sweep.objective, config)
        sweep = name if cell else None
        yield Trial(config, task.fingerprint, sweep, cell, replicate, plan.stage, plan.sweep.objective)


def _check_objective(objective: str, config: TrialConfig) -> None:
    """Raises ConfigError unless the objective is among what will be evaluated."""
    if config.stop_at_target != (objective == STEPS):
        raise ConfigError("sweep.objective", objective, f"expected {STEPS} with stop_at_target=true, and only there")
    known = [RAW_LOSS, *(f"{label}_{RAW_LOSS}" for label in labels_of(config.average))]
    if objective not in (*known, BEST, STEPS):
        raise ConfigError("sweep.objective", objective, f"expected {BEST}, or what is evaluated: {', '.join(known)}")
