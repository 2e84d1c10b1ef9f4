"""The table of classes that train in packs needs the package whose classes it tries."""

import sys
from collections.abc import Callable
from types import ModuleType

import pytest


def test_without_pytorch_optimizer_the_script_says_what_brings_it(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(SystemExit) as ended:
        script("packable_classes")
    assert ended.value.code == 2
    said = "error: pytorch_optimizer is not installed; it is of the extra [integrations]: in "
    assert capsys.readouterr().err.startswith(said)
