"""One run folder: whether it is whole, and whether what it says of itself follows from its rows. Imports no target."""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config.schema import MAX_TRIAL_VALUES, TrialConfig, parse_trial
from bench.config.section import check_plain
from bench.errors import ConfigError, shorten
from bench.files import METRICS_FILE, RUN_FILE
from bench.runs.claims import CLAIMS
from bench.runs.folders import READ_ERRORS, explain, read_rows, read_run
from bench.runs.identity import run_id
from bench.runs.schema import SCHEMA_VERSION, STATUSES, find_schema_faults, number
from bench.runs.store import LEADING_COLUMNS
from bench.training.checkpoint import CHECKPOINTS
from bench.training.clock import PARTS
from bench.training.record import FINISHED, Record, Row

ROUNDING = 1e-9  # relative; versions of Python add up floats differently
DRAFT = re.compile(r"\.[0-9a-f]{16}\..+\.\d+\.[0-9a-f]{8}\.tmp")
CACHES = (".calibration", CLAIMS, ".multirun")


@dataclass(frozen=True)
class Checked:
    """A run folder, the status of its run ("" where it is faulty), and one line per fault."""

    folder: Path
    status: str
    faults: Sequence[str]


def check_folder(folder: Path) -> Checked:
    """Check one run folder, whoever wrote it; never raises for what it holds."""
    try:
        run = read_run(folder)
        faults = list(_find_faults(run, folder))
        return Checked(folder, "" if faults else run["status"], faults)
    except READ_ERRORS as error:
        return Checked(folder, "", [explain(error)])


def find_leftovers(root: Path) -> Iterator[tuple[Path, str]]:
    """Folders below `root` that are no runs and that nobody reads, each with what it is."""
    for folder, subfolders, files in os.walk(root):
        aside = [name for name in subfolders if name.startswith(".") or name.endswith(".tmp")]
        subfolders[:] = [] if RUN_FILE in files else sorted(set(subfolders) - set(aside))
        for name in sorted(set(aside) - set(CACHES)):
            path = Path(folder, name)
            if DRAFT.fullmatch(name):
                yield path, "draft of a run in training, or of a process that died"
            elif name.endswith(".damaged"):
                yield path, "set aside because it was damaged"
            elif name == CHECKPOINTS:
                yield from ((file, "checkpoint of trials that are not finished") for file in path.glob("*.ckpt"))
            else:
                yield path, f"not read by anything: {sum(1 for _ in path.rglob(RUN_FILE))} runs in it are not checked"


def _find_faults(run: Mapping[str, Any], folder: Path) -> Iterator[str]:
    version = run.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        yield f"schema_version={shorten(version)}: expected {SCHEMA_VERSION}"
        return
    if faults := list(find_schema_faults(run)):
        yield from faults
        return
    yield from _find_identity_faults(run, folder.name)
    try:
        rows = read_rows(folder, run)
    except READ_ERRORS as error:
        yield explain(error)
        return
    try:  # on any device: this machine need not have the run's
        check_plain(run["config"], MAX_TRIAL_VALUES)
        trial = parse_trial({**run["config"], "device": "cpu"})
    except ConfigError as error:
        yield f"config: {error}"
        return
    row_faults = list(_find_row_faults(run["status"], trial, rows))
    yield from row_faults or _find_summary_faults(run, trial, rows)


def _find_identity_faults(run: Mapping[str, Any], folder_name: str) -> Iterator[str]:
    if run["run_id"] != folder_name:
        yield f"run_id={shorten(run['run_id'])}: the folder has another name"
    if run["run_id"] != (expected := run_id(run["config"], run["fingerprint"])):
        yield f"run_id={shorten(run['run_id'])}: its config and its fingerprint give {expected}"
    if run["status"] not in STATUSES:
        yield f"status={shorten(run['status'])}: expected one of {', '.join(STATUSES)}"
    if run["seed"] != run["config"].get("seed"):
        yield f"seed={shorten(run['seed'])}: config.seed is {shorten(run['config'].get('seed'))}"
    if run["pack"]["size"] < 1 or run["pack"]["shared_timing"] != (run["pack"]["size"] > 1):
        yield f"pack={shorten(run['pack'])}: expected a size from 1, and a shared timing from 2"


def _find_row_faults(status: str, trial: TrialConfig, rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        if status != "failed":
            yield f"{METRICS_FILE} has no rows"
        return
    names = [*LEADING_COLUMNS, "step_seconds", *(f"{part}_seconds" for part in PARTS)]
    if status in FINISHED:
        metrics = [name.removeprefix("val_") for name in rows[0] if name.startswith("val_")]
        names += [prefix + name for prefix in ("full_val_", "full_test_") for name in metrics]
    if missing := [name for name in names if name not in rows[0]]:
        yield f"{METRICS_FILE} has no column {', '.join(missing)}"
    steps, every = [int(row["step"]) for row in rows], trial.task.eval_every
    for position, step in enumerate(steps):
        if step != (expected := min(position * every, steps[-1])):
            yield f"{METRICS_FILE}: row {position} has step {step}, expected {expected}"
            return
    if len(rows) != (expected := -(-steps[-1] // every) + 1):
        yield f"{METRICS_FILE} has {len(rows)} rows up to step {steps[-1]}, expected {expected}"
    if steps[-1] > trial.task.steps or (status == "completed" and steps[-1] < trial.task.steps):
        yield f"{METRICS_FILE} ends at step {steps[-1]}, a {status} run of {trial.task.steps} steps"


def _find_summary_faults(run: Mapping[str, Any], trial: TrialConfig, rows: Sequence[Row]) -> Iterator[str]:
    stored, alone = run["summary"], run["summary"]["alone_step_seconds"]
    record = Record(
        trial=trial,
        rows=list(rows),
        message=stored["message"],
        pack_size=run["pack"]["size"],
        first_step_seconds=number(stored["first_step_seconds"]),
        alone_step_seconds=None if alone is None else number(alone),
        num_parameters=stored["num_parameters"],
        state_bytes=stored["state_bytes"],
    )
    figures = record.summary()
    for name, figure in figures.items():
        if name not in stored:
            yield f"summary.{name}: missing"
        elif not _agrees(stored[name], figure):
            yield f"summary.{name}={shorten(stored[name])}: the rows give {shorten(figure)}"
    for name in sorted(stored.keys() - figures.keys()):
        yield f"summary.{name}={shorten(stored[name])}: the rows give no such figure"


def _agrees(stored: Any, figure: Any) -> bool:
    """Whether `stored` is how JSON tells `figure`: null stands for what is not finite."""
    if isinstance(figure, float) and not math.isfinite(figure):
        return stored is None
    if isinstance(figure, float) and not isinstance(stored, bool):
        return math.isclose(number(stored), figure, rel_tol=ROUNDING)
    return type(stored) is type(figure) and bool(stored == figure)
