"""What a property is, and how many random cases are put through it."""

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

SCRATCH = tempfile.TemporaryDirectory(prefix="fuzz-")  # gone when the process ends
set_hypothesis_home_dir(f"{SCRATCH.name}/hypothesis")  # it keeps tables, and a checkout is no place for them
DEADLINE = timedelta(seconds=30)  # a case takes milliseconds; this is for one that hangs
MAX_LINE = 1000


@dataclass(frozen=True)
class Property:
    """Something that holds for every input.

    Attributes:
        cases: the strategy that draws inputs.
        check: tells the outcome of one input in a word or two, and raises where the property does not hold.
        share: its part of all cases, relative to the other properties.
    """

    cases: st.SearchStrategy[Any]
    check: Callable[[Any], str]
    share: float


def run_property(prop: Property, num_cases: int) -> Counter[str]:
    """Outcomes by count. The cases are the same at every call; a failing one is shrunk, then raised."""
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=num_cases,
        derandomize=True,
        database=None,
        deadline=DEADLINE,
        suppress_health_check=list(HealthCheck),
    )
    @given(prop.cases)
    def check(case: Any) -> None:
        outcomes[prop.check(case)] += 1

    check()
    return outcomes


def share_out(properties: dict[str, Property], num_cases: int) -> dict[str, int]:
    """Cases per property, at least one each."""
    total = sum(prop.share for prop in properties.values())
    return {name: max(1, round(num_cases * prop.share / total)) for name, prop in properties.items()}


def make_folder(name: str) -> Path:
    """An empty folder for the files of some properties."""
    folder = Path(SCRATCH.name) / name
    folder.mkdir()
    return folder


def require_one_line(text: str) -> None:
    """A line that a terminal can show: bounded, printable."""
    assert text, "an empty message"
    assert len(text) <= MAX_LINE, f"{len(text)} characters"
    assert text.isprintable(), f"not one printable line: {text!r}"
