"""Two processes on one trial: one trains it, the other waits; a dead one blocks nobody."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.runs.claims import Claims

HOLD = """
import sys, time
from pathlib import Path
from bench.runs.claims import Claims
with Claims(Path(sys.argv[1])).take(["a", "b"]) as claimed:
    print(*sorted(claimed), flush=True)
    time.sleep(600)
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Another process that claims a and b, and holds them."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "a b\n"
    return process


@pytest.mark.slow
def test_what_another_process_has_claimed_is_left_to_it_until_it_dies(tmp_path: Path) -> None:
    other = hold(tmp_path)
    with Claims(tmp_path).take(["a", "b", "c"]) as claimed:
        assert claimed == {"c"}
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert list((tmp_path / ".claims").glob("*.json")), "a killed process leaves its claim behind"
    with Claims(tmp_path).take(["a", "b", "c"]) as claimed:
        assert claimed == {"a", "b", "c"}
    assert [path.name for path in (tmp_path / ".claims").iterdir()] == ["guard"]


def test_claims_of_one_process_exclude_each_other_and_end(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    with claims.take(["a"]) as first, Claims(tmp_path).take(["a", "b"]) as second:
        assert (first, second) == ({"a"}, {"b"})
    with claims.take(["a", "b"]) as both:
        assert both == {"a", "b"}


def test_a_hundred_claims_cost_little(tmp_path: Path) -> None:
    started = time.monotonic()
    for number in range(100):
        with Claims(tmp_path).take([str(number)]):
            pass
    assert time.monotonic() - started < 2.0
