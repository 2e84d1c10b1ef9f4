"""Two hundred random cases through the properties that `scripts/fuzz.py` puts ten thousand through."""

from pathlib import Path

import pytest

from tests.fuzzing.everything import PROPERTIES
from tests.fuzzing.properties import run_property, share_out

NUM_CASES = share_out(PROPERTIES, 200)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROPERTIES)
def test_holds_for_random_and_mutated_input(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_property(PROPERTIES[name], NUM_CASES[name])
    assert list(tmp_path.iterdir()) == []
