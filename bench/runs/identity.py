"""What makes a trial the same trial: its configuration by its meaning, its data, the code that decides its numbers.

By its meaning: a number counts by its value (`1` is `1.0`), what no training reads does not count (`DOCUMENTATION`),
where data lie does not count (task options called `path` or `*_path`: the data's own fingerprint does), and of a GPU's
name only that it is one.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench.config.meaning import by_value
from bench.config.schema import DOCUMENTATION, TrialConfig
from bench.config.targets import locate
from bench.runs.schema import SCHEMA_VERSION, Fingerprint
from bench.runs.sources import digest_file, find_sources

TRAINING = Path(__file__).resolve().parents[1] / "training"  # everything there decides numbers, for all trials
TRACING = TRAINING.parent / "tracing.py"  # and this, where they are compiled


def run_id(config: Mapping[str, Any], fingerprint: Fingerprint, schema_version: int = SCHEMA_VERSION) -> str:
    """16 hex digits, equal for trials that compute the same numbers.

    Args:
        config: the trial's configuration in its plain form.
        fingerprint: of its data and code.
        schema_version: of the run; those of version 1 were told apart by the spelling of their configuration.
    """
    meaning = without_documentation(config) if schema_version == 1 else meaning_of(config)
    identity = {"config": meaning, "fingerprint": fingerprint.model_dump()}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def meaning_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a configuration says about the numbers that its trial computes, in one spelling."""
    task = {key: value for key, value in config["task"].items() if not is_place(key)}
    device = str(config["device"]).partition(":")[0]
    meaning: Mapping[str, Any] = by_value(without_documentation({**config, "task": task, "device": device}))
    return meaning


def is_place(option: str) -> bool:
    """Whether an option of a task says where data lie, and so nothing about what they are."""
    return option == "path" or option.endswith("_path")


def without_documentation(value: Any) -> Any:
    """A configuration without the keys that only a reader reads."""
    if isinstance(value, Mapping):
        return {key: without_documentation(item) for key, item in value.items() if key not in DOCUMENTATION}
    return [without_documentation(item) for item in value] if isinstance(value, list) else value


def code_fingerprint(trial: TrialConfig) -> str:
    """SHA-256 over the code that decides the trial's numbers.

    That is everything in `bench/training`, `bench/tracing.py`, and the modules of the optimizers, the task and the
    schedule with what they import of their own package. Comments, docstrings, layout and the texts of errors and logs
    are no part of it.
    """
    optimizers = [part.class_path for part in trial.optimizer.parts]
    paths = [trial.task.class_path, trial.schedule.class_path, *optimizers]
    return _digest_sources(TRAINING, tuple(dict.fromkeys(paths)))


@cache
def _digest_sources(training: Path, class_paths: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for file in (*sorted(training.glob("*.py")), TRACING):
        digest.update(digest_file(file).encode())
    for class_path in class_paths:
        module = getattr(locate(class_path, "_target_"), "__module__", None) or class_path.rpartition(".")[0]
        for text in find_sources(module):
            digest.update(text.encode())
    return digest.hexdigest()
