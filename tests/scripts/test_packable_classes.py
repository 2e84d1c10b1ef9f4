"""The table of classes that train in packs needs the package whose classes it tries."""

import sys
from collections.abc import Callable
from types import ModuleType

import pytest


def test_without_pytorch_optimizer_the_script_says_what_brings_it(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    monkeypatch.setattr(sys, "argv", ["packable_classes.py"])
    assert script("packable_classes").main() == 2
    said = "error: pytorch_optimizer is not installed; it is of the extra [integrations]: in "
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize(
    ("path", "packs", "remark"),
    [
        ("torch.optim.Muon", True, "matrices only"),
        ("torch.optim.SparseAdam", False, "cannot take a step alone: RuntimeError"),
        ("torch.optim.LBFGS", False, "refuses its options: "),
    ],
)
def test_a_class_that_fails_on_some_parameters_is_tried_on_matrices(
    path: str, packs: bool, remark: str, script: Callable[[str], ModuleType]
) -> None:
    difference, said = script("packable_classes").examine(path)
    assert (difference < 1e-9) == packs
    assert said.startswith(remark)
