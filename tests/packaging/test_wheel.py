"""The wheel holds all that a checkout has, works from any folder, and does not need its optional extras."""

import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cli.folders import GROUPS
from tests.processes import Command

ROOT = Path(__file__).parents[2]
Bench = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.slow

SHOW_PLACES = """
import optimizers.adam, tasks.base
from bench.config import folders
print(folders.find_conf_dir(), optimizers.adam.__file__, tasks.base.__file__, folders.__file__, sep="\\n")
"""


def test_wheel_holds_every_source_and_configuration_file(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(file.relative_to(ROOT)) for folder in ("bench", "optimizers", "tasks") for file in files_in(folder)}
    configuration = {f"bench/{file.relative_to(ROOT)}" for file in files_in("conf")}
    assert sources | configuration <= held


def files_in(folder: str) -> list[Path]:
    return [file for file in (ROOT / folder).rglob("*") if file.is_file() and "__pycache__" not in file.parts]


def test_wheel_leaves_optimizers_and_tasks_open_for_a_users_own_files(wheel: Path) -> None:
    assert not {"optimizers/__init__.py", "tasks/__init__.py"} & set(zipfile.ZipFile(wheel).namelist())


def test_wheel_has_one_console_script_with_a_name_of_its_own(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert archive.read(name).decode().split() == ["[console_scripts]", "fairstep", "=", "bench.__main__:main"]


def test_installed_package_finds_everything_inside_itself(bench: Bench, site: Path) -> None:
    places = bench("-c", SHOW_PLACES).stdout.split()
    assert len(places) == 4
    assert all(Path(place).is_relative_to(site) for place in places)


def test_installed_package_trains_and_reports_from_an_empty_folder(
    bench: Bench, start: Callable[..., Command], site: Path, tmp_path: Path
) -> None:
    done = bench("-m", "bench", "optimizer=adamuon", "task=quadratic", "task.steps=20", "sweep=seeds", "tracker=none")
    assert done.returncode == 0, done.stderr
    runs = [json.loads(file.read_text()) for file in tmp_path.rglob("run.json")]
    assert [run["status"] for run in runs] == ["completed"] * 5
    report = start("bench.report", "results", first=[site]).finish()
    assert report.returncode == 0, report.stderr
    assert (tmp_path / "results" / "report" / "index.html").is_file()


@pytest.fixture
def without_extras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that makes the libraries of foreign optimizers look as if they were not installed."""
    folder = tmp_path_factory.mktemp("without")
    for name in ("pytorch_optimizer", "heavyball"):
        text = f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')\n"
        (folder / f"{name}.py").write_text(text)
    return folder


def test_help_lists_every_member_of_every_group_without_the_extras(bench: Bench, without_extras: Path) -> None:
    done = bench("-m", "bench", "--help", first=without_extras)
    assert done.returncode == 0, done.stderr
    for group in GROUPS:
        section = done.stdout.split(f"\n{group}=\n")[1].split("\n\n")[0]
        listed = {line.split()[0]: line.split(maxsplit=1)[1:] for line in section.splitlines()}
        assert set(listed) == {file.stem for file in (ROOT / "conf" / group).glob("*.yaml")}
        assert all(description for description in listed.values())


def test_optimizer_of_a_package_that_is_not_installed_is_refused_by_the_extras_name(
    bench: Bench, without_extras: Path, tmp_path: Path
) -> None:
    done = bench("-m", "bench", "optimizer=pytorch_optimizer_soap", "task=mlp", "tracker=none", first=without_extras)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "pytorch_optimizer" in line
    assert "fairstep[integrations]" in line
    assert not list(tmp_path.iterdir())
