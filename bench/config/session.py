"""How trials are run and stored: the part of the configuration that changes no result."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from bench.config.cadence import Cadence, parse_cadence
from bench.config.fields import Name
from bench.config.validation import Section, allowed, check


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


def parse_session(mapping: Mapping[str, Any]) -> SessionConfig:
    """How the trials are to be run and stored, from the session part of a configuration. Raises ConfigError."""
    return check(SessionConfig, {key: value for key, value in mapping.items() if key != "sweep"})
