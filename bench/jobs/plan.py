"""From a resolved configuration to a checked plan: which trials there are, which are done, which train together.

Everything that can be wrong with the input is found here, before anything is trained or written.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from bench.config.schema import SessionConfig, TrialConfig, parse_session, parse_trial, split_mapping
from bench.config.section import Section
from bench.config.sweep import Cell, SweepConfig, expand, parse_sweep
from bench.config.targets import accepts, locate, signature_text
from bench.errors import ConfigError, UnknownKeyError
from bench.jobs.tracker import check_tracker
from bench.runs.schema import Run
from bench.runs.store import Store
from bench.runs.trial import Trial
from bench.training.components import TaskShelf, build_schedule, check_target
from bench.training.routing import check_optimizer


@dataclass(frozen=True)
class Plan:
    """What a job is to do.

    Attributes:
        trials: every cell of the sweep, in order.
        finished: the runs of those that need no training, by run id.
        absent: optional axes that the optimizer does not have.
    """

    session: SessionConfig
    sweep: SweepConfig
    trials: list[Trial]
    finished: dict[str, Run]
    absent: frozenset[str]
    tasks: TaskShelf

    @property
    def missing(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.run_id not in self.finished]


def make_plan(mapping: Mapping[str, Any]) -> Plan:
    """Check a resolved configuration and look up what is already there.

    Raises:
        ConfigError: one line naming key, value and what is allowed.
    """
    trial_mapping, session_mapping = split_mapping(mapping)
    session = parse_session(session_mapping)
    check_tracker(session.tracker)
    sweep = parse_sweep(session_mapping["sweep"])
    Section(trial_mapping["optimizer"], "optimizer")
    absent = frozenset(key for key in sweep.axes if not _has_key(trial_mapping, key, key in sweep.optional))
    cells = expand(sweep, trial_mapping["optimizer"].get("search_space"), absent)
    if not cells:
        raise ConfigError("sweep.exclude", sweep.exclude, "leaves no cell to train")
    tasks = TaskShelf()
    trials = _make_trials(trial_mapping, cells, sweep, tasks)
    store = Store(session.results_dir)
    found = {} if session.force else {trial.run_id: store.find_finished(trial) for trial in trials}
    finished = {identity: run for identity, run in found.items() if run is not None}
    return Plan(session, sweep, trials, finished, absent, tasks)


def _make_trials(mapping: Mapping[str, Any], cells: list[Cell], sweep: SweepConfig, tasks: TaskShelf) -> list[Trial]:
    trials = []
    checked: set[str] = set()
    for cell in cells:
        config = parse_trial(with_cell(mapping, cell))
        task = tasks.get(config.task, config.device)
        check_target(config.task, task)
        _check_once(config, checked)
        in_sweep = None if not cell else "grid" if sweep.name == "none" else sweep.name
        trials.append(Trial(config, task.fingerprint, in_sweep, cell))
    return trials


def _check_once(config: TrialConfig, checked: set[str]) -> None:
    """Build the optimizer and the schedule of each distinct configuration once, for what they refuse."""
    key = repr((config.mapping["optimizer"], config.mapping["schedule"]))
    if key not in checked:
        check_optimizer(config.optimizer)
        build_schedule(config.schedule, config.task.steps)
        checked.add(key)


def with_cell(mapping: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """A copy of a configuration with the values of a cell in their places."""
    changed = deepcopy(dict(mapping))
    for key, value in cell.items():
        try:
            node, name = _parent(changed, key)
        except KeyError as error:
            raise ConfigError(key, value, "there is nothing by this name to sweep") from error
        node[name] = value
    return changed


def _parent(mapping: Any, key: str) -> tuple[Any, Any]:
    """The container that holds a dotted key, and the key's last part: a name, or a position in a list.

    Raises:
        KeyError: there is no such container, or no such position in it.
    """
    *path, last = key.split(".")
    node = mapping
    for part in path:
        node = node[_position(node, part)]
    return node, _position(node, last)


def _position(node: Any, part: str) -> Any:
    if isinstance(node, Mapping):
        return part
    if isinstance(node, list) and part in map(str, range(len(node))):
        return int(part)
    raise KeyError(part)


def _has_key(mapping: Mapping[str, Any], key: str, optional: bool) -> bool:
    """Whether an axis exists in this configuration.

    Raises:
        UnknownKeyError: it does not, and the sweep does not mark it as optional.
    """
    try:
        node, last = _parent(mapping, key)
    except KeyError:
        node, last = {}, ""
    if (
        isinstance(node, list)
        or last in node
        or (key == f"optimizer.{last}" and accepts(_optimizer_class(mapping), last))
    ):
        return True
    if not optional:
        owner = signature_text(_optimizer_class(mapping)) if key.startswith("optimizer.") else ""
        raise UnknownKeyError(f"sweep.axes.{key}", "…", node, owner)
    return False


def _optimizer_class(mapping: Mapping[str, Any]) -> Any:
    return locate(str(mapping["optimizer"].get("_target_")), "optimizer._target_")
