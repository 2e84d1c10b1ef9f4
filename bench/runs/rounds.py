"""Interleaved rounds of timed steps: what is stored of them, and where. The report's seconds rest on nothing else."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from bench.config.validation import Strict, check
from bench.errors import ConfigError
from bench.files import make_folder, os_errors_as_store_error, read_json, replace_durably
from bench.runs.folders import RUN_FILE
from bench.runs.schema import Environment

TIMES = "times"  # below a folder of results
READ_ERRORS = (ValueError, OSError)


class Round(Strict):
    """One optimizer's turn in one round: the median of its steps, each synchronised with the device."""

    round: Annotated[int, Field(ge=0)]
    optimizer: str
    step_seconds: Annotated[float, Field(gt=0)]


class Session(Strict):
    """All rounds of one command on one task: in each, every optimizer has one turn, in random order."""

    schema_version: Literal[1] = 1
    session: str
    task: str
    batch_size: float | None
    precision: str
    device: str
    num_steps: Annotated[int, Field(gt=0, description="timed steps of one turn")]
    load: Annotated[float | None, Field(description="processes that ran on the machine before, where that is known")]
    environment: Environment
    rounds: list[Round]


def save_session(session: Session, results_dir: Path) -> Path:
    """Write a session below a results folder. Raises StoreError."""
    path = results_dir / TIMES / f"{session.task}-{session.session}.json"
    with os_errors_as_store_error(results_dir):
        make_folder(path.parent)
        replace_durably(path, (json.dumps(session.model_dump(), indent=1, allow_nan=False) + "\n").encode())
    return path


def read_sessions(root: Path) -> Iterator[tuple[Path, Session | str]]:
    """Every session at or below a folder, or in one line why its file cannot be read."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [] if RUN_FILE in files else sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files) if Path(folder).name == TIMES else ():
            path = Path(folder, name)
            if path.suffix == ".json" and not name.startswith("."):
                yield path, _read(path)


def _read(path: Path) -> Session | str:
    try:
        return check(Session, read_json(path), path.name)
    except (ConfigError, *READ_ERRORS) as error:
        return str(error)
