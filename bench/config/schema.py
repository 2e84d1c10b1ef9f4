"""The configuration, validated once: from Hydra's plain mapping to frozen records. Nothing below sees a `cfg`.

A key of the configuration is a field of a section, and nothing else: its type, its bounds and what is told of a wrong
value stand beside it, and the JSON schemas for editors are made from it.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from bench.config.fields import Name, Seed, Steps
from bench.config.optimizer import OptimizerConfig, check_named
from bench.config.plain import check_plain
from bench.config.session import SessionConfig
from bench.config.task import TaskConfig
from bench.config.validation import Documentation, OpenSection, Section, allowed, check, known_keys
from bench.errors import ConfigError, UnknownKeyError

DEVICE = re.compile(r"cpu|cuda(:(?P<index>[0-9]{1,3}))?")
MAX_VALUES, MAX_TRIAL_VALUES = 200_000, 1000  # a sweep may list its values; a trial's are copied for each of its cells

Decay = Annotated[float, Field(ge=0, lt=1), allowed("a number in [0, 1)")]
Window = Annotated[int, Field(ge=1, le=1000), allowed("a whole number from 1 to 1,000")]


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


class TrialConfig(Section):
    """One training with fixed hyperparameters and seed."""

    optimizer: Annotated[OptimizerConfig, AfterValidator(check_named)]
    task: TaskConfig
    schedule: ScheduleConfig
    average: AverageConfig = AverageConfig()
    seed: Seed
    device: Annotated[str, AfterValidator(_check_device)]
    precision: Annotated[Literal["float32", "bfloat16", "float64"], allowed("one of float32, bfloat16, float64")]
    compile: Annotated[Literal["auto", "none", "rules", "step"], allowed("one of auto, none, rules, step")] = "none"
    clip_norm: Annotated[float | None, Field(gt=0), allowed("a finite number above 0, or null")]
    diverge_factor: Annotated[float, Field(gt=1), allowed("a finite number above 1")]
    timeout: Annotated[float | None, Field(gt=0), allowed("a finite number above 0, or null")]
    stop_at_target: bool = False
    diagnostics: bool

    @property
    def mapping(self) -> Mapping[str, Any]:
        """The plain form that is stored with the run: the keys that were given, each in its type."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


TRIAL_KEYS, SESSION_KEYS = tuple(known_keys(TrialConfig)), ("sweep", *known_keys(SessionConfig))
DOCUMENTATION = frozenset(
    name
    for section in (OptimizerConfig, TaskConfig)
    for name, field in section.model_fields.items()
    if Documentation in field.metadata
)


def split_mapping(mapping: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
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
