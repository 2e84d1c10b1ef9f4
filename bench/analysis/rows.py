"""One `run.json`, checked field by field: it may have been written by anybody."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from bench.errors import clean_text
from bench.runs.schema import SCHEMA_VERSION, STATUSES, number

MAX_KEYS = 96
DESCRIPTIVE_KEYS = {"name", "_target_", "paper", "eps_convention", "search_space", "labels", "needs_closure"}
BUDGET_KEYS = {"name", "_target_", "steps", "batch_size", "eval_every", "target", "loss_scale"}


def mapping(value: object) -> Mapping[str, Any]:
    """`value` where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def flatten(value: object, prefix: str) -> dict[str, Any]:
    """Nested objects and lists as dotted keys (`betas` -> `betas.0`, `betas.1`) with scalar values.

    Raises:
        ValueError: more than `MAX_KEYS` leaves, which no configuration of ours has.
    """
    leaves: dict[str, Any] = {}
    stack: list[tuple[str, object]] = [(prefix, value)]
    while stack:
        key, item = stack.pop()
        if isinstance(item, dict):
            stack.extend((f"{key}.{clean_text(k)}", v) for k, v in item.items())
        elif isinstance(item, list):
            stack.extend((f"{key}.{i}", v) for i, v in enumerate(item))
        else:
            leaves[key] = _scalar(item)
        if len(leaves) > MAX_KEYS or len(stack) > MAX_KEYS:
            raise ValueError(f"{prefix} has more than {MAX_KEYS} values")
    return dict(sorted(leaves.items()))


def _scalar(item: object) -> object:
    if item is None or isinstance(item, bool):
        return item
    if isinstance(item, int | float):
        value = number(item)
        return item if math.isfinite(value) else None
    return clean_text(item)


def parse_record(document: object) -> dict[str, Any]:
    """The row of `runs` that one `run.json` holds.

    Args:
        document: What `json.loads` returned.

    Returns:
        The columns named in `bench.analysis`, without `path`.

    Raises:
        ValueError: in one line, why this record cannot be used.
    """
    if not isinstance(document, dict):
        raise ValueError("run.json holds no object")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise ValueError(f"schema version {clean_text(str(version))} (this report reads version {SCHEMA_VERSION})")
    config, environment = mapping(document.get("config")), mapping(document.get("environment"))
    row = _identity(document, config)
    row.update(_settings(config, environment))
    row.update(_optimizer(mapping(config.get("optimizer")), config))
    row.update(_summary(mapping(document.get("summary"))))
    pack = mapping(document.get("pack"))
    row["pack_size"] = number(pack.get("size"))
    # Where nobody says that the clock was this run's own, it is not taken for a timing.
    row["shared_timing"] = pack.get("shared_timing") is not False
    for name in ("torch", "python", "platform", "device_name", "git", "bench_version", "time"):
        row[name] = clean_text(environment.get(name))
    row["num_threads"] = number(environment.get("num_threads"))
    return row


def _identity(document: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    run_id, status, seed = document.get("run_id"), document.get("status"), document.get("seed")
    if not isinstance(run_id, str) or not re.fullmatch(r"[0-9a-f]{16}", run_id):
        raise ValueError("run_id is not 16 hexadecimal digits")
    if status not in STATUSES:
        raise ValueError(f"unknown status {clean_text(str(status))!r} (known: {', '.join(STATUSES)})")
    if isinstance(seed, bool) or not isinstance(seed, int) or abs(seed) >= 2**63:
        raise ValueError("seed is not an integer")
    names = {kind: clean_text(mapping(config.get(kind)).get("name")) for kind in ("task", "optimizer")}
    for kind, name in names.items():
        if not name.strip():
            raise ValueError(f"config.{kind}.name is missing")
    sweep, prints = mapping(document.get("sweep")), mapping(document.get("fingerprint"))
    return {
        "run_id": run_id,
        "status": status,
        "seed": seed,
        **names,
        "sweep": clean_text(sweep.get("name")),
        "sweep_keys": tuple(sorted(clean_text(key) for key in list(mapping(sweep.get("cell")))[:MAX_KEYS])),
        "data_fingerprint": clean_text(prints.get("data")),
        "code_fingerprint": clean_text(prints.get("code")),
    }


def _settings(config: Mapping[str, Any], environment: Mapping[str, Any]) -> dict[str, Any]:
    task = mapping(config.get("task"))
    target, scale = mapping(task.get("target")), number(task.get("loss_scale"))
    own = flatten({k: v for k, v in task.items() if k not in BUDGET_KEYS}, "task")
    # Where the data lie says nothing about them: their fingerprint does.
    own = {k: v for k, v in own.items() if not (isinstance(v, str) and ("/" in v or "\\" in v))}
    return {
        "steps": number(task.get("steps")),
        "batch_size": number(task.get("batch_size")),
        "eval_every": number(task.get("eval_every")),
        "loss_scale": 1.0 if math.isnan(scale) else scale,
        "target_metric": clean_text(target.get("metric")),
        "target_value": number(target.get("value")),
        "target_mode": "max" if target.get("mode") == "max" else "min",
        "precision": clean_text(config.get("precision")),
        # "auto" is a wish; the environment tells where the run really was.
        "device": clean_text(environment.get("device")) or clean_text(config.get("device")),
        "task_options": json.dumps(own, sort_keys=True),
        "context": number(task.get("context")),
    }


def _optimizer(optimizer: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    own = {k: v for k, v in optimizer.items() if k not in DESCRIPTIVE_KEYS}
    hyperparameters = flatten(own, "optimizer") | flatten(mapping(config.get("schedule")), "schedule")
    hyperparameters["clip_norm"] = _scalar(config.get("clip_norm"))
    space = {}
    for key, entry in list(mapping(optimizer.get("search_space")).items())[:MAX_KEYS]:
        low, high = number(mapping(entry).get("low")), number(mapping(entry).get("high"))
        if low < high:
            space[f"optimizer.{clean_text(key)}"] = (low, high)
    return {
        "optimizer_target": clean_text(optimizer.get("_target_")),
        "hyperparameters": hyperparameters,
        "search_space": space,
        "eps_convention": clean_text(optimizer.get("eps_convention")),
        "paper": clean_text(optimizer.get("paper")),
    }


def _summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    names = ("initial_val_loss", "final_val_loss", "best_val_loss", "final_val_accuracy", "train_seconds",
             "step_seconds", "alone_step_seconds", "optimizer_share", "num_parameters", "state_bytes",
             "samples_per_step")  # fmt: skip
    return {name: number(summary.get(name)) for name in names} | {"message": clean_text(summary.get("message"))}
