"""The configuration, validated once: from Hydra's plain mapping to frozen records. Nothing below sees a `cfg`.

A key of the configuration is a field here, and nothing else: its type, its bounds and what is told of a wrong value
stand beside it, and the JSON schemas for editors are made from it.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bench.config.cadence import Cadence, parse_cadence
from bench.config.fields import Name, Number, Positive, Seed
from bench.config.plain import check_plain
from bench.config.search import MAX_RANGES, Range
from bench.config.validation import Section, allowed, check, known_keys
from bench.config.variants import draw_variant
from bench.errors import ConfigError, UnknownKeyError

DEVICE = re.compile(r"cpu|cuda(:(?P<index>[0-9]{1,3}))?")
MAX_STEPS = 100_000_000
MAX_VALUES, MAX_TRIAL_VALUES = 200_000, 1000  # a sweep may list its values; a trial's are copied for each of its cells

Documentation = object()
"""Marks a key that no training reads: it is no part of a run's identity."""

Label = Literal["matrix", "embedding", "head", "vector"]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS), allowed(f"a whole number from 1 to {MAX_STEPS:,}")]
Factor = Annotated[float, Field(ge=0), allowed("a factor, a finite number of at least 0")]
Decay = Annotated[float, Field(ge=0, lt=1), allowed("a number in [0, 1)")]
Window = Annotated[int, Field(ge=1, le=1000), allowed("a whole number from 1 to 1,000")]


class OpenSection(Section):
    """A section whose other keys are the options of the class or function that `_target_` names."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Any]

    class_path: Annotated[str, Field(alias="_target_")]

    @property
    def options(self) -> Mapping[str, Any]:
        """The keys that go to the class or function as they stand."""
        return self.__pydantic_extra__


class GroupConfig(Section):
    """Factors on the lr and the weight decay of some parameters.

    Attributes:
        match: a pattern over a parameter's whole name, as of files: `*.head.*`, `layers.[0-3].*`.
    """

    match: Annotated[str, Field(min_length=1), allowed("a pattern of parameter names such as *.head.*")]
    lr: Factor = 1.0
    weight_decay: Factor = 1.0

    @model_validator(mode="after")
    def _check_factors(self) -> Self:
        if self.model_fields_set == {"match"}:
            raise PydanticCustomError("allowed", "expected lr or weight_decay, a factor on it")
        return self


class OptimizerConfig(OpenSection):
    """An optimizer class with its hyperparameters.

    Attributes:
        labels: the parameter labels that it takes; all others go to `rest`. Empty: it takes every parameter.
        rest: the optimizer of all other parameters; it has no name of its own.
        base: the optimizer that this one is put around, for wrappers (see `optimizers.wrapper`). Its `lr` stands at the
            wrapper, where sweeps and searches find that of every optimizer.
        groups: factors by the names of parameters, whichever optimizer takes them; the first match wins.
        modifiers: what is put around its rule, see `optimizers.modifiers`.
        path: its dotted place in the configuration.
    """

    name: Name = ""
    labels: Annotated[tuple[Label, ...], Field(strict=False), allowed("a list of matrix, embedding, head, vector")] = ()
    rest: "OptimizerConfig | None" = None
    base: "OptimizerConfig | None" = None
    groups: Annotated[tuple[GroupConfig, ...], Field(strict=False)] = ()
    modifiers: Annotated[tuple[str, ...], Field(strict=False), allowed("a list of names")] = ()
    needs_closure: bool = False
    divergence_hint: Annotated[str, Documentation] = ""
    paper: Annotated[str, Documentation] = ""
    eps_convention: Annotated[str, Documentation] = ""
    search_space: Annotated[dict[str, Range] | None, Field(max_length=MAX_RANGES), Documentation] = None
    _path: str = PrivateAttr("optimizer")
    _lr: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check_inner(self) -> Self:
        if bool(self.labels) != bool(self.rest):
            raise PydanticCustomError("allowed", "labels and rest belong together: give both or neither")
        if any(inner.groups for inner in (self.rest, self.base) if inner is not None):
            raise PydanticCustomError("allowed", "rest and base take no groups: those of the optimizer hold for all")
        if self.base is not None:
            self._check_base(self.base)
        self._place("optimizer")
        return self

    def _check_base(self, base: "OptimizerConfig") -> None:
        if self.labels or self.modifiers:
            raise PydanticCustomError("allowed", "labels, rest and modifiers belong into base")
        if "lr" in base.options:
            raise PydanticCustomError("allowed", "the lr of base stands at the optimizer itself")
        if any(part.base is not None or part.needs_closure for part in base.parts):
            raise PydanticCustomError("allowed", "base steps without a closure, and has no base of its own")

    def _place(self, path: str) -> None:
        self._path = path
        for name, inner in (("rest", self.rest), ("base", self.base)):
            if inner is not None:
                inner._place(f"{path}.{name}")
        if self.base is not None:
            self.base._lr = {name: value for name, value in self.options.items() if name == "lr"}

    @property
    def parts(self) -> Iterator["OptimizerConfig"]:
        """Itself and all optimizers inside of it."""
        yield self
        for inner in (self.base, self.rest):
            if inner is not None:
                yield from inner.parts

    @property
    def path(self) -> str:
        return self._path

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """What the class is called with; at a wrapper, the lr is for its base."""
        return {**self.options, **self._lr}


class Target(Section):
    """What counts as reached: `metric` at or below `value` (mode `min`) or at or above it (mode `max`)."""

    metric: str
    value: Number
    mode: Annotated[Literal["min", "max"], allowed("one of min, max")]

    def is_met(self, value: float) -> bool:
        return value <= self.value if self.mode == "min" else value >= self.value


class Spike(Section):
    """A single bad batch: the gradient of one training step, 1-based, is `factor` times what it would be."""

    step: Steps
    factor: Positive


class TaskConfig(OpenSection):
    """A task class with its own options, and the budget and target that the harness holds it to.

    Attributes:
        relevant: The least difference of the natural logarithm of the final test loss that matters: 0.05 is a ratio of
            1.05, five percent. Relative, because losses span decades within a task (`quadratic`) and differ in unit
            between tasks. The reason for each value stands beside it in the task's yaml. No training reads it.
        tuned_lr: For readers, and for the tests of a task.
        variant: The number of a held-out workload, drawn from `variants`; 0 is the task itself.
        variants: Values of the task's own options from which `variant` draws.
        accumulate: Parts of a batch that go through the model one after the other, to save memory.
        spike: A step whose gradient is multiplied, to see how an optimizer recovers; reported losses do not know it.
    """

    name: Name
    steps: Steps
    eval_every: Steps
    target: Target
    relevant: Annotated[Positive, Documentation]
    loss_scale: Positive
    tuned_lr: Annotated[Any, Documentation] = None
    variant: Seed = 0
    variants: Annotated[dict[str, list[Any]] | None, Documentation, allowed("lists of values by option, or null")] = (
        None
    )
    accumulate: Annotated[int, Field(ge=1, le=65_536), allowed("a whole number from 1 to 65,536")] = 1
    spike: Spike | None = None

    @model_validator(mode="before")
    @classmethod
    def _draw_variant(cls, mapping: Any) -> Any:
        return draw_variant(mapping) if isinstance(mapping, Mapping) else mapping

    @model_validator(mode="after")
    def _check_spike(self) -> Self:
        if self.spike is not None and self.spike.step > self.steps:
            raise ConfigError("task.spike.step", self.spike.step, f"expected a step of the training's {self.steps:,}")
        return self

    def gradient_scale(self, step: int) -> float:
        """By what the loss of a step, 1-based, is multiplied before its backward pass."""
        return self.loss_scale * (self.spike.factor if self.spike is not None and step == self.spike.step else 1.0)


class ScheduleConfig(OpenSection):
    """A schedule function of (step, num_steps, **options) that returns the factor on every lr."""

    name: Name


class AverageConfig(Section):
    """Averages of the weights that are evaluated beside them: none, moving averages, or means of latest snapshots.

    Attributes:
        decays: of `ema`, one average each.
        windows: of `lawa`, how many snapshots, one average each.
        every: of `lawa`, steps from one snapshot to the next.
    """

    name: Annotated[Literal["none", "ema", "lawa"], allowed("one of none, ema, lawa")] = "none"
    decays: Annotated[tuple[Decay, ...], Field(strict=False), allowed("a list of numbers in [0, 1)")] = ()
    windows: Annotated[tuple[Window, ...], Field(strict=False), allowed("a list of whole numbers from 1")] = ()
    every: Steps = 1

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        for name, settings in (("ema", self.decays), ("lawa", self.windows)):
            if bool(settings) != (self.name == name) or len(set(settings)) < len(settings):
                key = "decays" if name == "ema" else "windows"
                raise PydanticCustomError("allowed", f"{key}: expected different values with name={name}, else none")
        return self


def _check_device(value: str) -> str:
    """`cpu` or `cuda[:index]`; `auto` is the GPU where there is one."""
    if value == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    match = DEVICE.fullmatch(value)
    if match is None:
        raise PydanticCustomError("allowed", "expected auto, cpu, cuda or cuda:N")
    if value != "cpu" and not torch.cuda.is_available():
        raise PydanticCustomError("allowed", "this machine has no CUDA GPU that torch can use; use device=cpu")
    if match["index"] and int(match["index"]) >= torch.cuda.device_count():
        raise PydanticCustomError("allowed", f"this machine has {torch.cuda.device_count()} CUDA device(s)")
    return value


def _check_named(optimizer: OptimizerConfig) -> OptimizerConfig:
    if not optimizer.name:
        raise ConfigError("optimizer.name", None, "this key is required")
    return optimizer


class TrialConfig(Section):
    """One training with fixed hyperparameters and seed."""

    optimizer: Annotated[OptimizerConfig, AfterValidator(_check_named)]
    task: TaskConfig
    schedule: ScheduleConfig
    average: AverageConfig = AverageConfig()
    seed: Seed
    device: Annotated[str, AfterValidator(_check_device)]
    precision: Annotated[Literal["float32", "bfloat16", "float64"], allowed("one of float32, bfloat16, float64")]
    compile: Annotated[Literal["none", "rules", "step"], allowed("one of none, rules, step")] = "none"
    clip_norm: Annotated[float | None, Field(gt=0), allowed("a finite number above 0, or null")]
    diverge_factor: Annotated[float, Field(gt=1), allowed("a finite number above 1")]
    timeout: Annotated[float | None, Field(gt=0), allowed("a finite number above 0, or null")]
    stop_at_target: bool = False
    diagnostics: bool

    @property
    def mapping(self) -> dict[str, Any]:
        """The plain form that is stored with the run: the keys that were given, each in its type."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class TrackerConfig(Section):
    """Where losses and timings are mirrored, any number of trackers; the other keys are wandb's."""

    wandb: bool = False
    csv: bool = False
    tensorboard: bool = False
    project: Annotated[Name | None, allowed("a name or null")] = None
    entity: Annotated[str | None, allowed("a name or null")] = None
    runs: Annotated[Literal["trial", "sweep"], allowed("one of trial, sweep")] = "trial"
    name: Annotated[str | None, allowed("text or null")] = None
    group: Annotated[str | None, allowed("text or null")] = None
    tags: Annotated[tuple[str, ...], Field(strict=False), allowed("a list of texts")] = ()

    @property
    def has_any(self) -> bool:
        return self.wandb or self.csv or self.tensorboard


def _none_if_auto(value: Any) -> Any:
    if value is None:
        raise ValueError("null")
    return None if value == "auto" else value


def _check_results_dir(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise PydanticCustomError("allowed", "expected the path of a folder")
    return Path(value)


SCHEDULER = r"^(tcp|tls|ucx|wss?)://\S{1,200}$"
SchedulerAddress = Annotated[str, Field(pattern=SCHEDULER)]
AUTO_OR_COUNT: dict[str, Any] = {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}


class SessionConfig(Section):
    """How trials are run and stored; nothing here changes a result."""

    results_dir: Annotated[Path, PlainValidator(_check_results_dir), WithJsonSchema({"type": "string"})]
    tracker: TrackerConfig
    force: bool
    dry_run: bool
    report: bool
    save_weights: bool
    pack_size: Annotated[
        int | None,
        Field(ge=1, le=65_536),
        BeforeValidator(_none_if_auto),
        allowed("auto or a whole number from 1 to 65,536"),
        WithJsonSchema(AUTO_OR_COUNT),
    ]
    workers: Annotated[
        Annotated[int, Field(ge=1, le=4096)] | SchedulerAddress | None,
        BeforeValidator(_none_if_auto),
        allowed("auto, a whole number from 1 to 4,096, or the address of a Dask scheduler such as tcp://HOST:8786"),
        WithJsonSchema({"anyOf": [*AUTO_OR_COUNT["anyOf"], {"type": "string", "pattern": SCHEDULER}]}),
    ]
    checkpoint_every: Annotated[
        Cadence | None,
        PlainValidator(parse_cadence),
        allowed("auto, null, a number of steps, or a duration such as 30s, 5min, 1h"),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 1}, {"type": "null"}]}),
    ]


TRIAL_KEYS, SESSION_KEYS = tuple(known_keys(TrialConfig)), ("sweep", *known_keys(SessionConfig))
DOCUMENTATION = frozenset(
    name
    for section in (OptimizerConfig, TaskConfig)
    for name, field in section.model_fields.items()
    if Documentation in field.metadata
)


def split_mapping(mapping: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The resolved configuration as its trial part and its session part. Raises ConfigError for any other key."""
    check_plain(mapping, MAX_VALUES)
    known = (*TRIAL_KEYS, *SESSION_KEYS)
    for key in known:
        if key not in mapping:
            raise ConfigError(key, None, "this key is required")
    for key, value in mapping.items():
        if key not in known:
            raise UnknownKeyError(key, value, known)
    trial = {key: mapping[key] for key in TRIAL_KEYS}
    check_plain(trial, MAX_TRIAL_VALUES)
    return trial, {key: mapping[key] for key in SESSION_KEYS}


def parse_trial(mapping: Mapping[str, Any]) -> TrialConfig:
    """The trial that the trial part of a configuration describes.

    Raises:
        ConfigError: one line naming key, value and what is allowed.
    """
    return check(TrialConfig, mapping)


def parse_session(mapping: Mapping[str, Any]) -> SessionConfig:
    """How the trials are to be run and stored, from the session part of a configuration. Raises ConfigError."""
    return check(SessionConfig, {key: value for key, value in mapping.items() if key != "sweep"})


def parse_optimizer(mapping: Any) -> OptimizerConfig:
    """The optimizer of a configuration. Raises ConfigError."""
    return _check_named(check(OptimizerConfig, mapping, "optimizer"))
