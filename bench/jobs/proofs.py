"""Whether trials may train together: looked up, or proved and kept."""

import hashlib
import json
import logging
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

import bench
from bench.config.targets import locate
from bench.errors import ConfigError, one_line
from bench.files import read_json
from bench.runs.trial import Trial
from bench.training.components import Task
from bench.training.memory import is_out_of_memory
from bench.training.model import build_model, trainable
from bench.training.param_groups import find_group
from bench.training.proof import NotPackableError, is_shipped, pick_distinct, prove_model, prove_optimizer
from bench.training.routing import optimizer_classes

log = logging.getLogger(__name__)
MAX_ALIKE = 2  # parameters of one shape and label that take part: enough to see whether they mix


class Proofs:
    """Proofs of one results folder, each taken once per configuration, sources, versions and kind of device.

    Args:
        folder: where they are kept as JSON, one file each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def reason_alone(self, task: Task, trials: Sequence[Trial]) -> str | None:
        """Why trials of one structure must train one by one; None where they can be packed.

        What is shipped with the harness is proved by its tests.
        """
        config = trials[0].config
        classes = optimizer_classes(config.optimizer)
        name = classes[0].__name__
        if config.task.accumulate > 1:
            return f"task.accumulate={config.task.accumulate} trains in parts, to save memory"
        if config.optimizer.needs_closure:
            return f"{config.optimizer.name or name} steps through a closure"
        if config.optimizer.base is not None:
            return f"{config.optimizer.name or name} is put around another optimizer"
        checks = {
            f"task={config.task.name}": not is_shipped(locate(config.task.class_path, "task._target_")),
            name: not all(map(is_shipped, classes)),
        }
        reasons = (self._known(what, task, trials, what == name) for what, is_due in checks.items() if is_due)
        return next((reason for reason in reasons if reason), None)

    def _known(self, what: str, task: Task, trials: Sequence[Trial], of_optimizer: bool) -> str | None:
        chosen = pick_distinct(trials, lambda trial: trial.config.mapping["optimizer"])
        path = self._path("optimizer" if of_optimizer else "model", chosen)
        try:
            known = read_json(path)
        except (OSError, ValueError):
            known = None
        if isinstance(known, dict) and known.keys() == {"reason"} and isinstance(known["reason"], str | None):
            return known["reason"]
        try:
            with torch.compiler.set_stance("force_eager"):  # compiling for a few steps would take minutes
                _prove_optimizer(task, chosen) if of_optimizer else prove_model(task, [t.config for t in chosen[:2]])
            reason = None
        except NotPackableError as error:
            reason = f"{what} {error}"
        except ConfigError:
            raise
        except Exception as error:  # code of anyone, which may not know the proof's precision
            if is_out_of_memory(error):
                return None  # for the training to find, which halves its packs
            reason = one_line(f"{what} fails alone in the proof's float64: {type(error).__name__}: {error}"[:160])
        self._write(path, reason)
        return reason

    def _path(self, kind: str, trials: Sequence[Trial]) -> Path:
        configs = [trial.config for trial in trials]
        versions = (bench.__version__, torch.__version__, numpy.__version__, platform.python_version())
        swept = [config.mapping["optimizer"] for config in configs] if kind == "optimizer" else []
        key = (kind, versions, trials[0].fingerprint, configs[0].mapping["task"], configs[0].device, swept)
        return self.folder / f"proof-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.json"

    def _write(self, path: Path, reason: str | None) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"reason": reason}), encoding="utf-8")
        except OSError as error:
            log.warning("a proof could not be kept in %s: %s", path.parent, error)


def _prove_optimizer(task: Task, trials: Sequence[Trial]) -> None:
    model = build_model(task, trials[0].config)
    labels = task.param_labels(model)
    alike: Counter[Any] = Counter()
    shapes = {}
    for name, param in trainable(model).items():
        kind = labels[name], param.shape, find_group(trials[0].config.optimizer.groups, name)
        alike[kind] += 1
        if alike[kind] <= MAX_ALIKE:
            shapes[name] = param.shape
    prove_optimizer([trial.config.optimizer for trial in trials], shapes, labels)
