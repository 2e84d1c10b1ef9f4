"""Two hundred random cases through the properties that `scripts/fuzz.py` puts ten thousand through."""

import runpy
import sys
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


def test_without_hypothesis_the_script_says_what_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("tests.fuzzing.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "fuzz.py"))
    assert ended.value.code == 2
    said = "error: hypothesis is not installed; it is of the extra [dev]: in "
    assert capsys.readouterr().err.startswith(said)
