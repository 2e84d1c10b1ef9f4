"""What is stored: the type of a run. `results/README.md` tells the meaning of every key."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, JsonValue, PrivateAttr, ValidationError
from pydantic_core import PydanticCustomError

from bench.config.plain import check_plain
from bench.config.schema import MAX_TRIAL_VALUES, TrialConfig, parse_trial
from bench.config.sweep import FRESH_SWEEP, RAW_LOSS, STAGES, Stage
from bench.config.validation import Strict, allowed, tell_faults
from bench.errors import shorten
from bench.runs.summary import Count, Summary

SCHEMA_VERSION = 2
MARGIN_OF_VERSION_1 = 0.05  # its tasks had no `relevant`

Status = Literal["completed", "reached", "diverged", "timeout", "failed", "interrupted"]
STATUSES: tuple[Status, ...] = get_args(Status)

RunId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$"), allowed("16 hexadecimal digits")]


class Fingerprint(Strict):
    """SHA-256 of the data, and of the code that decides the numbers."""

    data: str
    code: str


class SweepPlace(Strict):
    """The sweep that a run belongs to, and the swept keys with their values here.

    `replicate` counts independent searches from 0. At the `stage` of tuning, good cells are sought; choosing trains the
    best of them on more seeds; and fresh seeds are those on which the chosen cell is shown. `objective` is what
    cells are chosen by, see `bench.runs.objective`.
    """

    name: str
    cell: dict[str, JsonValue]
    replicate: Count = 0
    stage: Annotated[Stage, allowed(f"one of {', '.join(STAGES)}")] = "tuning"
    objective: str = RAW_LOSS


class PackPlace(Strict):
    """How many trials trained together, and whether their clock was therefore shared."""

    size: Annotated[int, Field(ge=1, lt=2**63), allowed("a whole number from 1")]
    shared_timing: bool


class Environment(Strict):
    """Where a run was measured."""

    bench_version: str
    python: str
    torch: str
    platform: str
    device: str
    device_name: str
    cuda: str | None
    num_threads: Count
    tf32: bool | None = None
    git: str | None
    time: str


def _check_names(config: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for part in ("task", "optimizer"):
        section = config.get(part)
        name = section.get("name") if isinstance(section, dict) else None
        if not isinstance(name, str) or not name.strip():
            raise PydanticCustomError("allowed", "config.{part}.name is missing", {"part": part})
    return config


class Run(Strict):
    """A trial's stored record: `run.json`, and the folder that it was read from or written to."""

    schema_version: Annotated[Literal[1, 2], allowed("1 or 2")]
    run_id: RunId
    status: Annotated[Status, allowed(f"one of {', '.join(STATUSES)}")]
    seed: Annotated[int, Field(gt=-(2**63), lt=2**63)]
    config: Annotated[dict[str, JsonValue], AfterValidator(_check_names)]
    fingerprint: Fingerprint
    sweep: SweepPlace | None
    summary: Summary
    pack: PackPlace
    environment: Environment
    files: dict[str, str]
    _folder: Path | None = PrivateAttr(None)

    @property
    def folder(self) -> Path:
        """Where it is stored."""
        assert self._folder is not None, "this run is not stored"
        return self._folder

    def at(self, folder: Path) -> Self:
        """The same run, known to be stored in `folder`."""
        run = self.model_copy()
        run._folder = folder
        return run

    def trial(self, device: str | None = None) -> TrialConfig:
        """The configuration, checked as one of today; on another device where one is given. Raises ConfigError."""
        config: dict[str, Any] = {**self.config, **({} if device is None else {"device": device})}
        if self.schema_version == 1:
            config["task"] = {"relevant": MARGIN_OF_VERSION_1, **config["task"]}
        check_plain(config, MAX_TRIAL_VALUES)
        return parse_trial(config)

    @property
    def cell(self) -> dict[str, JsonValue]:
        """The swept keys with their values, the seed left out; empty outside a sweep."""
        return {key: value for key, value in (self.sweep.cell if self.sweep else {}).items() if key != "seed"}

    @property
    def replicate(self) -> int:
        """Which of several independent searches it belongs to."""
        return self.sweep.replicate if self.sweep else 0

    @property
    def stage(self) -> Stage:
        """What it was trained for; a single trial looks for nothing but itself.

        Version 0.1 had no stages: the name of a run's sweep told that its seeds are fresh.
        """
        if self.sweep is None:
            return "tuning"
        return "fresh" if self.sweep.name == FRESH_SWEEP else self.sweep.stage


class NoRunError(ValueError):
    """A document that is no run. Its text is one line; `faults` has one line per fault."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(faults[0])
        self.faults = faults


def parse_run(document: object) -> Run:
    """The run that a document, read from a file that anybody may have written, describes.

    Raises:
        NoRunError: another schema version, a key that is missing, unknown, or has a value of another type.
    """
    if not isinstance(document, dict):
        raise NoRunError(["run.json holds no object"])
    version = document.get("schema_version")
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise NoRunError([f"schema_version={shorten(version)}: expected at most {SCHEMA_VERSION}"])
    try:
        return Run.model_validate(document)
    except ValidationError as error:
        raise NoRunError(list(tell_faults(error, Run))) from error
