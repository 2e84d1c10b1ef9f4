"""Suites: lists of tasks that Hydra's multirun and the judge read alike."""

from pathlib import Path

import pytest

from bench.config.folders import find_conf_dir
from bench.config.suites import read_suite
from bench.errors import ConfigError

CONF = find_conf_dir()
TASKS = {file.stem for file in (CONF / "task").glob("*.yaml")}


def test_full_lists_every_task_and_core_a_part_of_them() -> None:
    full, core = read_suite("full", [CONF]), read_suite("core", [CONF])
    assert set(full) == TASKS
    assert set(core) < set(full)
    assert len(set(core)) == len(core)


def test_no_task_of_core_needs_a_download_or_an_extra() -> None:
    for task in read_suite("core", [CONF]):
        first = (CONF / "task" / f"{task}.yaml").read_text().splitlines()[0]
        assert "downloads" not in first
        assert "extra" not in first


def test_a_suite_of_ones_own_comes_before_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "core.yaml").write_text("hydra: {sweeper: {params: {task: 'a, b'}}}")
    assert read_suite("core", [tmp_path, CONF]) == ("a", "b")


def test_an_unknown_or_empty_suite_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^suite=cor: expected one of core, full$"):
        read_suite("cor", [CONF])
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "empty.yaml").write_text("hydra: null")
    with pytest.raises(ConfigError, match=r"^suite=empty: .*has no text"):
        read_suite("empty", [tmp_path, CONF])
