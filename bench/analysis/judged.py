"""What the judge said, as `verdict.json` holds it. `python -m bench.judge --schema` prints its JSON schema."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from bench.analysis.sequential import FailureWord, Word
from bench.config.validation import Strict
from bench.files import read_json
from bench.runs.folders import KEPT, READ_ERRORS, VERDICT_FILE, explain, find_verdicts

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
        Number, Field(description="of log losses between searches, less what the candidate's seeds explain; at least 0")
    ]
    sd_seeds: Annotated[Number, Field(description="of the candidate's log losses between seeds of one search")]
    baseline_sd_searches: Number
    baseline_sd_seeds: Number
    searches_needed: Annotated[
        Number,
        Field(description="searches that find twice the margin in 80 % of cases; null: resolved, or beyond all reach"),
    ]
    looks: Annotated[
        list[LookAt], Field(min_length=1, description="one at 0 searches where there was no time for the first")
    ]


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


def read_verdicts(paths: Iterable[Path]) -> tuple[list[tuple[Path, Verdict]], list[str]]:
    """Every answer that lies at or below `paths`, each once per folder, in the order of the candidates' numbers.

    Returns:
        The answers, each with the folder of results that it is about; a sentence for each file that holds none.
    """
    answers: list[tuple[Path, Verdict]] = []
    notes = []
    for folder in sorted({path.parent.resolve() for root in paths for path in find_verdicts(root)}):
        for file in [*sorted((folder / KEPT).glob("*.json")), folder / VERDICT_FILE]:
            try:
                verdict = Verdict.model_validate(read_json(file))
            except ValidationError:
                notes.append(f"{file} is no verdict that this version can read: what the judge said there is missing.")
            except READ_ERRORS as error:
                notes.append(f"{file}: {explain(error)}: what the judge said there is missing.")
            else:
                answers += [] if (folder, verdict) in answers else [(folder, verdict)]
    return sorted(answers, key=lambda answer: (answer[0], answer[1].baseline, answer[1].candidate_number)), notes
