"""The floors of the house: modules import what stands below, the harness no optimizer and no task."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = {
    "optimizers": 1,
    "tasks": 1,
    "bench": 0,  # the package's own `__init__`
    "bench.errors": 0,
    "bench.tracing": 0,
    "bench.schedules": 1,
    "bench.files": 2,
    "bench.config": 2,
    "bench.training": 3,
    "bench.runs": 4,
    "bench.analysis": 5,
    "bench.jobs": 5,
    "bench.report": 6,
    "bench.verify": 6,
    "bench.cli": 7,
    "bench.plot": 7,
    "bench.api": 8,
    "bench.check": 8,
    "bench.judge": 8,
    "bench.times": 8,
    "bench.__main__": 8,
}
MAX_FILES = 8  # directly in bench/
FILES = sorted(file for folder in ("bench", "optimizers", "tasks") for file in (ROOT / folder).rglob("*.py"))


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str | None:
    """The room that a dotted module name belongs to, None outside of this project."""
    parts = module.split(".")
    return next((name for name in (".".join(parts[:2]), parts[0]) if name in FLOORS), None)


def imported_modules(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_module_imports_only_its_own_room_and_lower_floors(file: Path) -> None:
    room = room_of(module_of(file))
    assert room is not None
    reached = {other for other in map(room_of, imported_modules(file)) if other not in (None, room)}
    assert all(FLOORS[other] < FLOORS[room] for other in reached)
    if room.startswith("bench"):
        assert not reached & {"optimizers", "tasks"}


def test_contributing_shows_the_same_floors() -> None:
    rows = re.findall(r"^  \| (\d) \| ([^|]+) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    shown = {module_of(ROOT / room): int(floor) for floor, rooms in rows for room in re.findall("`([^`]+)`", rooms)}
    assert shown == {room: floor for room, floor in FLOORS.items() if room != "bench"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {module_of(file) for file in FILES}

    def reached(file: Path) -> set[str]:
        candidates = {name for module in imported_modules(file) for name in (module, module.rpartition(".")[0])}
        return (candidates & names) - {module_of(file)}

    TopologicalSorter({module_of(file): reached(file) for file in FILES}).prepare()


def test_the_hall_holds_few_files() -> None:
    assert len(list((ROOT / "bench").glob("*.py"))) <= MAX_FILES
