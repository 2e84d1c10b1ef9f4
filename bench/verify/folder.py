"""One run folder: whether it is whole, and whether what it says of itself follows from its rows. Imports no target."""

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.config.schema import TrialConfig
from bench.errors import ConfigError, count_of, shorten
from bench.runs.folders import METRICS_FILE, READ_ERRORS, RUN_FILE, ResultsFolder, explain, read_rows, read_run
from bench.runs.identity import run_id
from bench.runs.schema import NoRunError, Run
from bench.runs.store import LEADING_COLUMNS
from bench.runs.summary import Summary
from bench.runs.weights import find_weight_faults
from bench.training.clock import PARTS
from bench.training.record import FINISHED, Record, Row

ROUNDING = 1e-9  # relative; versions of Python add up floats differently
DRAFT = re.compile(r"\.[0-9a-f]{16}\..+\.\d+\.[0-9a-f]{8}\.tmp")


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
        faults = list(_find_faults(run))
        return Checked(folder, "" if faults else run.status, faults)
    except NoRunError as error:
        return Checked(folder, "", error.faults)
    except READ_ERRORS as error:
        return Checked(folder, "", [explain(error)])


def find_leftovers(root: Path) -> Iterator[tuple[Path, str]]:
    """Folders below `root` that are no runs and that nobody reads, each with what it is."""
    for folder, subfolders, files in os.walk(root):
        aside = [name for name in subfolders if name.startswith(".") or name.endswith(".tmp")]
        subfolders[:] = [] if RUN_FILE in files else sorted(set(subfolders) - set(aside))
        here = ResultsFolder(Path(folder))
        for path in sorted({Path(folder, name) for name in aside} - {here.claims, here.calibration, here.multirun}):
            if DRAFT.fullmatch(path.name):
                yield path, "draft of a run in training, or of a process that died"
            elif path.name.endswith(".damaged"):
                yield path, "set aside because it was damaged"
            elif path == here.checkpoints:
                yield from ((file, "checkpoint of trials that are not finished") for file in path.glob("*.ckpt"))
            else:
                num_runs = sum(1 for _ in path.rglob(RUN_FILE))
                yield path, f"not read by anything, nor checked: {count_of(num_runs, 'run')} in it"


def _find_faults(run: Run) -> Iterator[str]:
    yield from _find_identity_faults(run)
    yield from find_weight_faults(run)
    try:
        rows = read_rows(run)
    except READ_ERRORS as error:
        yield explain(error)
        return
    try:  # on any device: this machine need not have the run's
        trial = run.trial(device="cpu")
    except ConfigError as error:
        yield f"config: {error}"
        return
    row_faults = list(_find_row_faults(run, trial, rows))
    yield from row_faults or _find_summary_faults(run, trial, rows)


def _find_identity_faults(run: Run) -> Iterator[str]:
    if run.run_id != run.folder.name:
        yield f"run_id={run.run_id}: the folder has another name"
    if run.run_id != (expected := run_id(run.config, run.fingerprint, run.schema_version)):
        yield f"run_id={run.run_id}: its config and its fingerprint give {expected}"
    if run.seed != run.config.get("seed"):
        yield f"seed={run.seed}: config.seed is {shorten(run.config.get('seed'))}"
    if run.pack.shared_timing != (run.pack.size > 1):
        yield f"pack={shorten(run.pack.model_dump())}: expected a shared timing from a size of 2"


def _find_row_faults(run: Run, trial: TrialConfig, rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        if run.status != "failed":
            yield f"{METRICS_FILE} has no rows"
        return
    names = [*LEADING_COLUMNS, "step_seconds", *(f"{part}_seconds" for part in PARTS)]
    if run.status in FINISHED:
        splits = ("full_val_", "full_test_") if run.schema_version > 1 else ("full_val_",)
        metrics = [name.removeprefix("val_") for name in rows[0] if name.startswith("val_")]
        names += [prefix + name for prefix in splits for name in metrics]
    if missing := [name for name in names if name not in rows[0]]:
        yield f"{METRICS_FILE} has no column {', '.join(missing)}"
    steps, every = [int(row["step"]) for row in rows], trial.task.eval_every
    for position, step in enumerate(steps):
        if step != (expected := min(position * every, steps[-1])):
            yield f"{METRICS_FILE}: row {position} has step {step}, expected {expected}"
            return
    if len(rows) != (expected := -(-steps[-1] // every) + 1):
        yield f"{METRICS_FILE} has {len(rows)} rows up to step {steps[-1]}, expected {expected}"
    if steps[-1] > trial.task.steps or (run.status == "completed" and steps[-1] < trial.task.steps):
        yield f"{METRICS_FILE} ends at step {steps[-1]}, a {run.status} run of {trial.task.steps} steps"
    target = trial.task.target
    is_met = any(target.is_met(row.get(target.metric, math.nan)) for row in rows)
    if run.status in ("completed", "reached") and (run.status == "reached") != (trial.stop_at_target and is_met):
        met = "meet" if is_met else "never meet"
        yield f"status={run.status}: the rows {met} the target, and stop_at_target={str(trial.stop_at_target).lower()}"


def _find_summary_faults(run: Run, trial: TrialConfig, rows: Sequence[Row]) -> Iterator[str]:
    summary = run.summary
    record = Record(
        trial=trial,
        rows=list(rows),
        message=summary.message,
        pack_size=run.pack.size,
        first_step_seconds=math.nan if summary.first_step_seconds is None else summary.first_step_seconds,
        alone_step_seconds=summary.alone_step_seconds,
        num_parameters=summary.num_parameters,
        state_bytes=summary.state_bytes,
    )
    stored, figures = summary.model_dump(), Summary.from_record(record).model_dump()
    for name in sorted(stored.keys() | figures.keys()):
        if name not in figures:
            yield f"summary.{shorten(name)}={shorten(stored[name])}: the rows give no such figure"
        elif name not in stored:
            yield f"summary.{name}: missing"
        elif not _agrees(stored[name], figures[name]):
            yield f"summary.{name}={shorten(stored[name])}: the rows give {shorten(figures[name])}"


def _agrees(stored: object, figure: object) -> bool:
    if isinstance(figure, float) and isinstance(stored, float):
        return math.isclose(stored, figure, rel_tol=ROUNDING)
    return stored == figure
