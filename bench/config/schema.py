"""The configuration, validated once: from Hydra's plain mapping to frozen dataclasses. Nothing below sees a `cfg`."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.config.cadence import Cadence, parse_cadence
from bench.config.section import Section, check_plain
from bench.errors import ConfigError

PRECISIONS = ("float32", "bfloat16", "float64")
DEVICE = re.compile(r"cpu|cuda(:(?P<index>[0-9]{1,3}))?")
MAX_STEPS = 100_000_000
MAX_SEED = 2**31 - 1
MAX_VALUES, MAX_TRIAL_VALUES = 200_000, 1000  # a sweep may list its values; a trial's are copied for each of its cells
LABELS = ("matrix", "embedding", "head", "vector")
DOCUMENTATION = ("paper", "eps_convention", "search_space", "divergence_hint", "relevant", "tuned_lr")
TRIAL_KEYS = (
    "optimizer",
    "task",
    "schedule",
    "seed",
    "device",
    "precision",
    "clip_norm",
    "diverge_factor",
    "timeout",
    "diagnostics",
)
SESSION_KEYS = (
    "sweep",
    "tracker",
    "results_dir",
    "force",
    "dry_run",
    "report",
    "pack_size",
    "workers",
    "checkpoint_every",
)


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer class with its hyperparameters.

    `labels` lists the parameter labels that it takes; all others go to `rest`. No labels: it takes every parameter.
    """

    name: str
    target: str
    hyperparameters: Mapping[str, Any]
    labels: tuple[str, ...]
    rest: "OptimizerConfig | None"
    needs_closure: bool
    divergence_hint: str
    path: str


@dataclass(frozen=True)
class Target:
    """What counts as reached: `metric` at or below `value` (mode `min`) or at or above it (mode `max`)."""

    metric: str
    value: float
    mode: str

    def is_met(self, value: float) -> bool:
        return value <= self.value if self.mode == "min" else value >= self.value


@dataclass(frozen=True)
class TaskConfig:
    """A task class with its own options, and the budget and target that the harness holds it to.

    Attributes:
        relevant: The least difference of the natural logarithm of the final test loss that matters: 0.05 is a ratio of
            1.05, five percent. Relative, because losses span decades within a task (`quadratic`) and differ in unit
            between tasks. The reason for each value stands beside it in the task's yaml. No training reads it.
    """

    name: str
    target_class: str
    options: Mapping[str, Any]
    steps: int
    eval_every: int
    target: Target
    relevant: float
    loss_scale: float


@dataclass(frozen=True)
class ScheduleConfig:
    """A schedule function of (step, num_steps, **options) that returns the factor on every lr."""

    name: str
    target: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class TrialConfig:
    """One training with fixed hyperparameters and seed. `mapping` is the plain form that is stored with the run."""

    optimizer: OptimizerConfig
    task: TaskConfig
    schedule: ScheduleConfig
    seed: int
    device: str
    precision: str
    clip_norm: float | None
    diverge_factor: float
    timeout: float | None
    diagnostics: bool
    mapping: Mapping[str, Any]


@dataclass(frozen=True)
class TrackerConfig:
    """Where losses and timings are mirrored: `wandb` or `none`."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class SessionConfig:
    """How trials are run and stored; nothing here changes a result."""

    results_dir: Path
    tracker: TrackerConfig
    force: bool
    dry_run: bool
    report: bool
    pack_size: int | None
    workers: int | None
    checkpoint_every: Cadence | None


def split_mapping(mapping: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The resolved configuration as its trial part and its session part. Raises ConfigError for any other key."""
    check_plain(mapping, MAX_VALUES)
    section = Section(mapping)
    trial = {key: section.take(key) for key in TRIAL_KEYS}
    session = {key: section.take(key) for key in SESSION_KEYS}
    section.finish()
    check_plain(trial, MAX_TRIAL_VALUES)
    return trial, session


def parse_trial(mapping: Mapping[str, Any]) -> TrialConfig:
    """The trial that the trial part of a configuration describes.

    Raises:
        ConfigError: one line naming key, value and what is allowed.
    """
    section = Section(mapping)
    device = _resolve_device(section.take("device"))
    return TrialConfig(
        optimizer=parse_optimizer(section.take("optimizer"), "optimizer"),
        task=_parse_task(section.take("task")),
        schedule=_parse_schedule(section.take("schedule")),
        seed=section.take_int("seed", 0, MAX_SEED),
        device=device,
        precision=section.take_choice("precision", PRECISIONS),
        clip_norm=section.take_optional_float("clip_norm"),
        diverge_factor=section.take_float("diverge_factor", above=1.0),
        timeout=section.take_optional_float("timeout"),
        diagnostics=section.take_bool("diagnostics"),
        mapping={**mapping, "device": device},
    )


def parse_session(mapping: Mapping[str, Any]) -> SessionConfig:
    """How the trials are to be run and stored, from the session part of a configuration. Raises ConfigError."""
    section = Section(mapping)
    results_dir = section.take_text("results_dir")
    if not results_dir.strip():
        raise ConfigError("results_dir", results_dir, "expected the path of a folder")
    return SessionConfig(
        results_dir=Path(results_dir),
        tracker=_parse_tracker(section.take("tracker")),
        force=section.take_bool("force"),
        dry_run=section.take_bool("dry_run"),
        report=section.take_bool("report"),
        pack_size=section.take_count_or_auto("pack_size", 65_536),
        workers=section.take_count_or_auto("workers", 4096),
        checkpoint_every=parse_cadence("checkpoint_every", section.take("checkpoint_every")),
    )


def parse_optimizer(mapping: Any, path: str) -> OptimizerConfig:
    """The optimizer at `path` of the configuration. Raises ConfigError."""
    section = Section(mapping, path)
    hint = section.take_text("divergence_hint", "")
    for name in DOCUMENTATION:
        section.take(name, None)
    labels = section.take("labels", [])
    if not isinstance(labels, list) or any(label not in LABELS for label in labels):
        raise ConfigError(section.key("labels"), labels, f"expected a list of {', '.join(LABELS)}")
    rest = section.take("rest", None)
    if bool(labels) != bool(rest):
        raise ConfigError(section.key("rest"), rest, "labels and rest belong together: give both or neither")
    return OptimizerConfig(
        name=section.take_name("name") if path == "optimizer" else path,
        target=section.take_text("_target_"),
        labels=tuple(labels),
        rest=parse_optimizer(rest, section.key("rest")) if rest else None,
        needs_closure=section.take_bool("needs_closure", False),
        divergence_hint=hint,
        hyperparameters=section.rest(),
        path=path,
    )


def _parse_task(mapping: Any) -> TaskConfig:
    section = Section(mapping, "task")
    section.take("tuned_lr", None)  # for readers, and for the tests of a task
    target = Section(section.take("target"), "task.target")
    config = TaskConfig(
        name=section.take_name("name"),
        target_class=section.take_text("_target_"),
        steps=section.take_int("steps", 1, MAX_STEPS),
        eval_every=section.take_int("eval_every", 1, MAX_STEPS),
        loss_scale=section.take_float("loss_scale"),
        relevant=section.take_float("relevant"),
        target=Target(
            target.take_text("metric"),
            target.take_float("value", -math.inf),
            target.take_choice("mode", ("min", "max")),
        ),
        options=section.rest(),
    )
    target.finish()
    return config


def _parse_schedule(mapping: Any) -> ScheduleConfig:
    section = Section(mapping, "schedule")
    return ScheduleConfig(section.take_name("name"), section.take_text("_target_"), section.rest())


def _parse_tracker(mapping: Any) -> TrackerConfig:
    section = Section(mapping, "tracker")
    return TrackerConfig(section.take_choice("name", ("wandb", "none")), section.rest())


def _resolve_device(value: Any) -> str:
    """`cpu` or `cuda[:index]`; `auto` is the GPU where there is one."""
    if value == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    match = DEVICE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ConfigError("device", value, "expected auto, cpu, cuda or cuda:N")
    index = match["index"]
    if value != "cpu" and not torch.cuda.is_available():
        raise ConfigError("device", value, "this machine has no CUDA GPU that torch can use; use device=cpu")
    if index and int(index) >= torch.cuda.device_count():
        raise ConfigError("device", value, f"this machine has {torch.cuda.device_count()} CUDA device(s)")
    return match[0]
