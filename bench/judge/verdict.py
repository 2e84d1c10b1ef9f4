"""What `verdict.json` holds. `python -m bench.judge --schema` prints its JSON schema."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from bench.analysis.sequential import FailureWord, Word
from bench.config.validation import Strict
from bench.files import os_errors_as_store_error, replace_durably
from bench.runs.folders import VERDICT_FILE

KEPT = "verdicts"  # the folder of all questions' files
Number = Annotated[float | None, Field(description="null where it is not known")]


class LookAt(Strict):
    """What one planned look saw; differences are of natural logarithms of final test losses, candidate - baseline."""

    searches: Annotated[int, Field(description="searches of each arm so far")]
    level: Annotated[float, Field(description="of false alarms at this look; the interval has it in its losses' share")]
    difference: Number
    low: Number
    high: Number
    verdict: Word
    failed: Annotated[int, Field(description="searches of the candidate whose chosen cell failed on a fresh seed")]
    baseline_failed: int
    failure_p_value: Annotated[float, Field(description="Fisher's exact test over searches")]
    failure_verdict: FailureWord


class TaskVerdict(Strict):
    """The answer on one task."""

    task: str
    verdict: Annotated[Word, Field(description="about the final test loss of runs that succeeded")]
    failure_verdict: FailureWord
    ratio: Annotated[Number, Field(description="of geometric means of test losses, candidate / baseline")]
    ratio_low: Number
    ratio_high: Number
    margin: Annotated[float, Field(description="the task's `relevant`: least difference of logarithms that matters")]
    sd_searches: Annotated[
        Number, Field(description="of log losses between searches, less what the candidate's seeds explain")
    ]
    sd_seeds: Annotated[Number, Field(description="of the candidate's log losses between seeds of one search")]
    baseline_sd_searches: Number
    baseline_sd_seeds: Number
    searches_needed: Annotated[
        Number,
        Field(description="searches that find twice the margin in 80 % of cases; null: resolved, or beyond all reach"),
    ]
    looks: Annotated[list[LookAt], Field(description="one at 0 searches where there was no time for the first")]


class Verdict(Strict):
    """A whole answer. It holds no times: the same question gets the same file, bit for bit."""

    schema_version: Literal[1] = 1
    candidate: str
    baseline: str
    candidate_number: Annotated[int, Field(description="of those judged against this baseline in this folder, from 1")]
    alpha: Annotated[float, Field(description="of any false alarm about this candidate, all tasks and looks together")]
    trials_per_search: int
    fresh_seeds: list[int]
    planned_looks: list[int]
    notes: list[str]
    tasks: list[TaskVerdict]


def write_verdict(verdict: Verdict, results_dir: Path, name: str) -> Path:
    """Write `verdict.json` as `keep` does, and return its path. Raises StoreError."""
    content = (json.dumps(verdict.model_dump(), indent=1, allow_nan=False) + "\n").encode()
    return keep(content, results_dir / VERDICT_FILE, name)


def keep(content: bytes, path: Path, name: str) -> Path:
    """Write a file on the latest question to `path`, and by the question's own name into `verdicts/` beside it.

    Each is written whole or not at all. Returns `path`. Raises StoreError.
    """
    kept = path.parent / KEPT / f"{name}{path.suffix}"
    with os_errors_as_store_error(path.parent):
        kept.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(kept, content)
        replace_durably(path, content)
    return path
