"""JSON schemas of `run.json` and of the yaml files, made from their types: for editors, and for other languages.

    python -m bench.cli.json_schemas [FOLDER]

writes them into FOLDER, by default to where they are shipped. An editor with a YAML language server completes and
checks a file by the one that its first line names: `# yaml-language-server: $schema=FOLDER/optimizer.json`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from bench.config.optimizer import OptimizerConfig
from bench.config.schema import AverageConfig, ScheduleConfig
from bench.config.session import TrackerConfig
from bench.config.sweep import SweepConfig
from bench.config.task import TaskConfig
from bench.runs.schema import Run

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SHIPPED = Path(__file__).resolve().parents[1] / "schemas"
YAMLS: Mapping[str, type[BaseModel]] = {
    "average": AverageConfig,
    "optimizer": OptimizerConfig,
    "schedule": ScheduleConfig,
    "sweep": SweepConfig,
    "task": TaskConfig,
    "tracker": TrackerConfig,
}
INTERPOLATION = {"type": "string", "pattern": r"^(.*\$\{.*\}.*|\?\?\?)$", "description": "a value from elsewhere"}


def make_schemas() -> dict[str, str]:
    """The text of every schema by the name of its file."""
    schemas: dict[str, object] = {f"{group}.json": _yaml_schema(group, model) for group, model in YAMLS.items()}
    schemas["run.json"] = {"$schema": DIALECT, **Run.model_json_schema(by_alias=True)}
    return {name: json.dumps(schema, indent=1, sort_keys=True) + "\n" for name, schema in schemas.items()}


def _yaml_schema(group: str, model: type[BaseModel]) -> dict[str, object]:
    """What may stand in a yaml file of a group, where Hydra's `defaults` and interpolations may stand for any key."""
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs", {})
    if "$ref" in schema:  # a type that contains itself
        schema = dict(definitions[model.__name__])
    for section in (schema, *definitions.values()):
        section["properties"] = {key: {"anyOf": [value, INTERPOLATION]} for key, value in section["properties"].items()}
    schema["properties"] |= {"defaults": {"type": "array", "description": "Hydra's list of files to begin with"}}
    if group == "optimizer":  # its `rest` needs no name, and is of the same type
        schema["required"] = ["name", *schema["required"]]
    schema["anyOf"] = [{"required": schema.pop("required", [])}, {"required": ["defaults"]}]
    return {"$schema": DIALECT, **schema, "title": f"conf/{group}/*.yaml", "$defs": definitions}


def main(folder: Path) -> None:
    """Write all schemas into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in make_schemas().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED)
