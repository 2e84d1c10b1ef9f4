"""Lower layers never import higher ones, and the harness names no optimizer and no task."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = {
    "optimizers": 0,
    "tasks": 0,
    "bench": 1,
    "bench.analysis": 2,
    "bench.check": 2,
    "bench.report": 3,
    "bench.verify": 3,
}
TOP = ("bench.__main__", "bench.callbacks")  # what Hydra and the command line call, which may use everything
FILES = sorted(file for folder in ("bench", "optimizers", "tasks") for file in (ROOT / folder).rglob("*.py"))


def layer_of(module: str) -> str | None:
    """The layer that a dotted module name belongs to, None outside of this project."""
    if module.startswith(TOP):
        return TOP[0]
    parts = module.split(".")
    return next((name for name in (".".join(parts[:2]), parts[0]) if name in LAYERS), None)


def imported_modules(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_module_imports_only_its_own_layer_and_lower_ones(file: Path) -> None:
    own = layer_of(".".join(file.relative_to(ROOT).with_suffix("").parts))
    assert own is not None
    reached = {layer for layer in map(layer_of, imported_modules(file)) if layer not in (None, own)}
    assert TOP[0] not in reached
    if own == TOP[0]:
        return
    assert all(LAYERS[layer] < LAYERS[own] for layer in reached)
    if own.startswith("bench"):
        assert not reached & {"optimizers", "tasks"}
