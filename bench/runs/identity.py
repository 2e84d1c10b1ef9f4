"""What makes a trial the same trial: its resolved configuration, its data and the code that trains it."""

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import bench
from bench.config.schema import DOCUMENTATION, TrialConfig
from bench.config.targets import locate
from bench.runs.schema import Fingerprint


def run_id(config: Mapping[str, Any], fingerprint: Fingerprint) -> str:
    """16 hex digits, equal exactly for trials that compute the same numbers; `config` in its plain form."""
    identity = {"config": _without_documentation(config), "fingerprint": fingerprint.model_dump()}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_fingerprint(trial: TrialConfig) -> str:
    """SHA-256 over the harness's version and the sources of the optimizer and the task, whoever wrote them."""
    rest = [trial.optimizer.rest.target] if trial.optimizer.rest is not None else []
    return _digest_sources(trial.task.target_class, trial.schedule.target, trial.optimizer.target, *rest)


@cache
def _digest_sources(*targets: str) -> str:
    digest = hashlib.sha256(bench.__version__.encode())
    for target in targets:
        module = inspect.getmodule(locate(target, "_target_"))
        for path in sorted(_source_files(module, set())):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _source_files(module: ModuleType | None, seen: set[str]) -> set[Path]:
    """The source of `module` and of what it takes from its own top-level package, as far as that reaches."""
    if module is None or module.__name__ in seen or getattr(module, "__file__", None) is None:
        return set()
    seen.add(module.__name__)
    files = {Path(str(module.__file__))}
    package = module.__name__.partition(".")[0]
    if package in ("torch", "bench"):  # told by their versions; their sources reach everywhere
        return files
    for value in list(vars(module).values()):
        owner = value if isinstance(value, ModuleType) else sys.modules.get(getattr(value, "__module__", None) or "")
        if owner is not None and owner.__name__.partition(".")[0] == package:
            files |= _source_files(owner, seen)
    return files


def _without_documentation(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_documentation(item) for key, item in value.items() if key not in DOCUMENTATION}
    return [_without_documentation(item) for item in value] if isinstance(value, list) else value
