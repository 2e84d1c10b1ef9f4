"""From a command line to a question: which optimizer against which, on which tasks, for how long."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.cli.arguments import check_spelling
from bench.cli.compose import compose_with_optimizer, resolve
from bench.cli.folders import config_dirs, own_dirs
from bench.config.equal_ranges import search_space_of, width_of
from bench.config.suites import read_suite
from bench.errors import ConfigError

CORE = "core"  # the suite that is judged on where nothing else is asked for
MINUTES = "20"
TRAINING_SHARE = 0.9  # of the minutes; the others are for the plan and the report
DEFAULTS = (
    "tracker=none",
    "sweep=search",
    "sweep.search.num_trials=8",
    "sweep.fresh_seeds=[100,101,102]",
    "pack_size=16",
)
ARGUMENTS = ("optimizer", "baseline", "task", "suite", "minutes", "results_dir", "report")
OWN_KEYS = ("sweep", "sweep.search.replicates", "sweep.search.seed", "sweep.axes", "seed", "force", "dry_run")
ANEW = ("sweep.search.seed=1", "sweep.axes.seed=[500]")  # another scrambling and other tuning seeds


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Attributes:
        label: what it is called.
        optimizer: the name of a yaml, or the import path of a class.
        overrides: of its own, `optimizer.KEY=VALUE`, and of its search where it is tuned anew.
    """

    label: str
    optimizer: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """What is to be judged.

    Attributes:
        report: whether a report is written at the end.
        minutes: how long the whole question may take, but for one look at one task; None for as long as it needs.
        overrides: of both arms.
        own_dirs: the user's own folders of configuration.
    """

    candidate: Arm
    baseline: Arm
    tasks: tuple[str, ...]
    minutes: float | None
    results_dir: Path
    report: bool
    overrides: tuple[str, ...]
    own_dirs: tuple[Path, ...]

    @property
    def training_seconds(self) -> float:
        """For how long trainings are begun."""
        return math.inf if self.minutes is None else 60 * TRAINING_SHARE * self.minutes

    @property
    def is_self(self) -> bool:
        return self.candidate.optimizer == self.baseline.optimizer and self.candidate.overrides[-2:] == ANEW


def parse_questions(args: Sequence[str]) -> list[Question]:
    """A question for each candidate on a command line: `optimizer=lion,muon` names two. Raises ConfigError."""
    others = [arg for arg in args if not arg.startswith("optimizer=")]
    names = [name for arg in args if arg not in others for name in arg.partition("=")[2].split(",") if name]
    return [parse_question([*others, f"optimizer={name}"]) for name in dict.fromkeys(names)] or [parse_question(args)]


def parse_question(args: Sequence[str]) -> Question:
    """The question about one candidate.

    Raises:
        ConfigError: a key that is missing, that this command sets by itself, or that has a value it cannot have.
    """
    given = dict(_split(arg) for arg in args if "=" in arg and not arg.startswith("-"))
    own = {key: given.pop(key, None) for key in ARGUMENTS}
    check_spelling(given, ARGUMENTS)
    if "," in (own["baseline"] or ""):
        raise ConfigError("baseline", own["baseline"], "expected one; several candidates are optimizer=NAME,NAME")
    baseline = Arm(own["baseline"] or "adamw", own["baseline"] or "adamw", _take(given, "baseline"))
    candidate = Arm(own["optimizer"] or "", own["optimizer"] or "", _take(given, "optimizer"))
    if "--self" in args:
        if own["optimizer"]:
            raise ConfigError("optimizer", own["optimizer"], "--self judges the baseline against itself; leave it out")
        label = f"{baseline.label} (tuned anew)"
        candidate = Arm(label, baseline.optimizer, (*baseline.overrides, *ANEW))
    elif not own["optimizer"]:
        raise ConfigError("optimizer", None, "which optimizer is to be judged? optimizer=NAME, or --self")
    for key in given:
        if any(key.lstrip("+~") == name or key.lstrip("+~").startswith(f"{name}.axes") for name in OWN_KEYS):
            raise ConfigError(key, given[key], "python -m bench.judge sets this by itself")
    return Question(
        _with_label(candidate),
        _with_label(baseline),
        _choose_tasks(own["task"], own["suite"], config_dirs(args)),
        _parse_minutes(own["minutes"] or MINUTES),
        Path(own["results_dir"] or "results/judge"),
        _parse_bool("report", own["report"]),
        tuple(f"{key}={value}" for key, value in given.items()),
        tuple(own_dirs(args)),
    )


def _split(arg: str) -> tuple[str, str]:
    key, _, value = arg.partition("=")
    return key, value


def _take(given: dict[str, str], name: str) -> tuple[str, ...]:
    """Takes the keys below `name` out, as overrides of the optimizer."""
    keys = [key for key in given if key.lstrip("+~").startswith(f"{name}.")]
    return tuple(f"{key.replace(name, 'optimizer', 1)}={given.pop(key)}" for key in keys)


def _choose_tasks(tasks: str | None, suite: str | None, folders: Sequence[Path]) -> tuple[str, ...]:
    """The tasks given, or those of a suite."""
    if tasks and suite:
        raise ConfigError("suite", suite, "task names the tasks already; give one of both")
    return tuple(dict.fromkeys(tasks.split(","))) if tasks else read_suite(suite or CORE, folders)


def _with_label(arm: Arm) -> Arm:
    """An arm with settings of its own is called by them too."""
    settings = [text.partition(".")[2] for text in arm.overrides if text not in ANEW]
    return replace(arm, label=f"{arm.label} ({', '.join(settings)})") if settings else arm


def _parse_minutes(text: str) -> float | None:
    try:
        minutes = None if text == "null" else float(text)
    except ValueError:
        minutes = -1.0
    if minutes is not None and not 0 < minutes < 1e6:
        raise ConfigError("minutes", text, "expected a number of minutes above 0, or null for no limit")
    return minutes


def _parse_bool(key: str, text: str | None) -> bool:
    if text not in (None, "true", "false"):
        raise ConfigError(key, text, "expected true or false")
    return text != "false"


def compose_arm(question: Question, arm: Arm, task: str) -> dict[str, Any]:
    """The resolved configuration of a search of an arm on a task.

    Raises:
        ConfigError, HydraException, OmegaConfBaseException: what is asked for does not exist.
    """
    overrides = [
        f"task={task}",
        *DEFAULTS,
        *question.overrides,
        *arm.overrides,
        f"results_dir='{question.results_dir}'",
    ]
    config = compose_with_optimizer(arm.optimizer, overrides, question.own_dirs)
    mapping = resolve(config)
    if mapping.get("stop_at_target"):
        text = "final losses are judged, and trainings that stop at their target have none"
        raise ConfigError("stop_at_target", mapping["stop_at_target"], text)
    if isinstance(section := mapping["optimizer"], dict) and not section.get("search_space"):
        section["search_space"] = search_space_of(section)
    return mapping


def describe_unequal_ranges(candidate: Mapping[str, Any], baseline: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each hyperparameter of both arms whose ranges are not equally wide."""
    mine, other = (mapping["optimizer"]["search_space"] for mapping in (candidate, baseline))
    for key in mine:
        if key in other and abs(width_of(mine[key]) - width_of(other[key])) > 0.01 * width_of(other[key]):
            widths = f"{width_of(mine[key]):.3g} and {width_of(other[key]):.3g}"
            unit = " decades" if other[key].get("scale") == "log" else ""
            yield f"unequal search: {key} ranges over {widths}{unit}"
