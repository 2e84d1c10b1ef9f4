"""From a command line to a question: which optimizer against which, on which tasks, for how long."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from bench.cli.compose import config_dirs, find_conf_dir
from bench.config.equal_ranges import search_space_of, section_of_class, width_of
from bench.errors import ConfigError

CORE_TASKS = ("quadratic", "mlp", "gpt_nano")
DEFAULTS = (
    "tracker=none",
    "sweep=search",
    "sweep.search.num_trials=8",
    "sweep.fresh_seeds=[100,101,102]",
    "pack_size=16",
)
OWN_KEYS = ("sweep", "sweep.search.replicates", "sweep.search.seed", "sweep.axes", "seed", "force", "dry_run", "report")
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
        minutes: how long trainings may take, None for as long as they need.
        overrides: of both arms.
        own_dirs: the user's own folders of configuration.
    """

    candidate: Arm
    baseline: Arm
    tasks: tuple[str, ...]
    minutes: float | None
    results_dir: Path
    overrides: tuple[str, ...]
    own_dirs: tuple[Path, ...]

    @property
    def is_self(self) -> bool:
        return self.candidate.optimizer == self.baseline.optimizer and self.candidate.overrides[-2:] == ANEW


def parse_question(args: Sequence[str]) -> Question:
    """The question on a command line.

    Raises:
        ConfigError: a key that is missing, that this command sets by itself, or that has a value it cannot have.
    """
    given = dict(_split(arg) for arg in args if "=" in arg and not arg.startswith("-"))
    own = {key: given.pop(key, None) for key in ("optimizer", "baseline", "task", "minutes", "results_dir")}
    baseline = Arm(own["baseline"] or "adamw", own["baseline"] or "adamw", _take(given, "baseline"))
    candidate = Arm(own["optimizer"] or "", own["optimizer"] or "", _take(given, "optimizer"))
    if "--self" in args:
        if own["optimizer"]:
            raise ConfigError("optimizer", own["optimizer"], "--self judges the baseline against itself; leave it out")
        label = f"{baseline.label} tuned anew"
        candidate = Arm(label, baseline.optimizer, (*baseline.overrides, *ANEW))
    elif not own["optimizer"]:
        raise ConfigError("optimizer", None, "which optimizer is to be judged? optimizer=NAME, or --self")
    for key in given:
        if any(key.lstrip("+~") == name or key.lstrip("+~").startswith(f"{name}.axes") for name in OWN_KEYS):
            raise ConfigError(key, given[key], "python -m bench.judge sets this by itself")
    return Question(
        _with_label(candidate),
        _with_label(baseline),
        tuple(dict.fromkeys((own["task"] or ",".join(CORE_TASKS)).split(","))),
        _parse_minutes(own["minutes"]),
        Path(own["results_dir"] or "results/judge"),
        tuple(f"{key}={value}" for key, value in given.items()),
        tuple(config_dirs(args)[:-1]),
    )


def _split(arg: str) -> tuple[str, str]:
    key, _, value = arg.partition("=")
    return key, value


def _take(given: dict[str, str], name: str) -> tuple[str, ...]:
    """Takes the keys below `name` out, as overrides of the optimizer."""
    keys = [key for key in given if key.lstrip("+~").startswith(f"{name}.")]
    return tuple(f"{key.replace(name, 'optimizer', 1)}={given.pop(key)}" for key in keys)


def _with_label(arm: Arm) -> Arm:
    """An arm with settings of its own is called by them too."""
    settings = [text.partition(".")[2] for text in arm.overrides if text not in ANEW]
    return replace(arm, label=f"{arm.label} ({', '.join(settings)})") if settings else arm


def _parse_minutes(text: str | None) -> float | None:
    try:
        minutes = None if text in (None, "null") else float(str(text))
    except ValueError:
        minutes = -1.0
    if minutes is not None and not 0 < minutes < 1e6:
        raise ConfigError("minutes", text, "expected a number of minutes above 0, or null for no limit")
    return minutes


def compose_arm(question: Question, arm: Arm, task: str, num_searches: int) -> dict[str, Any]:
    """The resolved configuration of an arm's searches on a task.

    Raises:
        ConfigError, HydraException, OmegaConfBaseException: what is asked for does not exist.
    """
    is_class = "." in arm.optimizer
    own = [text for text in arm.overrides if text.lstrip("+~").startswith("optimizer.")]
    overrides = [
        f"optimizer={'adamw' if is_class else arm.optimizer}",
        f"task={task}",
        *DEFAULTS,
        *question.overrides,
        *(arm.overrides if not is_class else [text for text in arm.overrides if text not in own]),
        f"sweep.search.replicates={num_searches}",
        f"results_dir='{question.results_dir}'",
    ]
    search_path = ",".join(f"file://{folder.resolve()}" for folder in question.own_dirs)
    with initialize_config_dir(str(find_conf_dir()), version_base="1.3"):
        config = compose("config", [*overrides, f"hydra.searchpath=[{search_path}]"])
    if is_class:
        section = OmegaConf.create(section_of_class(arm.optimizer))
        config.optimizer = OmegaConf.merge(section, OmegaConf.from_dotlist([t.split(".", 1)[1] for t in own]))
    return _resolve(config)


def _resolve(config: DictConfig) -> dict[str, Any]:
    mapping = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(mapping, dict)
    section = mapping["optimizer"]
    if isinstance(section, dict) and not section.get("search_space"):
        section["search_space"] = search_space_of(section)
    return {str(key): value for key, value in mapping.items()}


def describe_unequal_ranges(candidate: dict[str, Any], baseline: dict[str, Any]) -> Iterator[str]:
    """A sentence for each hyperparameter of both arms whose ranges are not equally wide."""
    mine, other = (mapping["optimizer"]["search_space"] for mapping in (candidate, baseline))
    for key in mine:
        if key in other and abs(width_of(mine[key]) - width_of(other[key])) > 0.01 * width_of(other[key]):
            widths = f"{width_of(mine[key]):.3g} and {width_of(other[key]):.3g}"
            unit = " decades" if other[key]["scale"] == "log" else ""
            yield f"unequal search: {key} ranges over {widths}{unit}"
