"""The shipped JSON schemas are those of the types, and tell right files from wrong ones."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from bench.cli.json_schemas import SHIPPED, YAMLS, main, make_schemas
from bench.jobs.job import run_job
from bench.runs.schema import parse_run
from tests.fuzzing.configurations import compose_mapping

ROOT = Path(__file__).parents[2]
FILES = sorted(file for group in YAMLS for file in (ROOT / "conf" / group).glob("*.yaml"))


def validator(name: str) -> Any:
    schema = json.loads((SHIPPED / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_shipped_schemas_are_those_of_the_types(tmp_path: Path) -> None:
    main(tmp_path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == make_schemas()
    assert {file.name: file.read_text() for file in SHIPPED.iterdir()} == make_schemas(), "run bench.cli.json_schemas"


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_shipped_yaml_is_valid(file: Path) -> None:
    validator(file.parent.name).validate(yaml.safe_load(file.read_text()))


MINE = {"name": "mine", "_target_": "optimizers.mine.Mine", "lr": 0.1, "anything": [1]}


@pytest.mark.parametrize(
    ("group", "document"),
    [
        ("optimizer", {**MINE, "labels": ["matrx"]}),
        ("optimizer", {**MINE, "needs_closure": 1}),
        ("optimizer", {**MINE, "search_space": {"lr": {"low": 1, "high": 2, "scale": "ln"}}}),
        ("optimizer", {**MINE, "labels": ["matrix"], "rest": {"lr": 1}}),
        ("optimizer", {"name": "mine"}),
        ("optimizer", {**MINE, "name": "../mine"}),
        ("sweep", {"name": "mine", "axes": {}, "optional": [], "exclude": [], "search": {"num_trials": 0}}),
        ("sweep", {"defaults": ["none"], "axis": {}}),
        ("task", {"defaults": ["mlp"], "steps": 0}),
        ("task", {"defaults": ["mlp"], "target": {"metric": "val_loss", "value": 1, "mode": "best"}}),
    ],
)
def test_a_wrong_yaml_is_found(group: str, document: dict[str, Any]) -> None:
    validator("optimizer").validate(MINE)
    with pytest.raises(jsonschema.ValidationError):
        validator(group).validate(document)


def test_a_stored_run_is_valid_and_a_changed_one_is_not(tmp_path: Path) -> None:
    run_job({**compose_mapping(["task=rosenbrock", "task.steps=2"]), "results_dir": str(tmp_path)})
    (file,) = tmp_path.rglob("run.json")
    run = json.loads(file.read_text())
    validator("run").validate(run)
    assert json.loads(parse_run(run).model_dump_json()) == run
    for change in ({"status": "won"}, {"seed": "0"}, {"unknown": 1}, {"summary": {}}):
        assert not validator("run").is_valid({**run, **change})


def test_a_yaml_that_names_its_schema_keeps_its_line_in_the_help(tmp_path: Path) -> None:
    from bench.cli.help import help_text

    (tmp_path / "optimizer").mkdir()
    text = "# yaml-language-server: $schema=../schemas/optimizer.json\n# what it is\nname: mine\n"
    (tmp_path / "optimizer" / "mine.yaml").write_text(text)
    assert "mine" in (help := help_text([f"--config-dir={tmp_path}"]))
    assert "what it is" in help
    assert "language-server" not in help
