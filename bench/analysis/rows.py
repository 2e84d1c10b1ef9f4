"""One run as a row of plain columns; its configuration may have been written by anybody."""

import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from bench.config.schema import DOCUMENTATION
from bench.config.sweep import RAW_LOSS
from bench.errors import clean_text
from bench.runs.folders import METRIC_NAME
from bench.runs.identity import is_place
from bench.runs.objective import weights_of
from bench.runs.schema import Run
from bench.runs.summary import Summary

Plain: TypeAlias = bool | int | float | str | None
MAX_KEYS = 96
SECTIONS = ("optimizer", "task", "schedule")  # of a configuration, with columns of their own
DESCRIPTIVE_KEYS = {"name", "_target_", "labels", "needs_closure"} | DOCUMENTATION
BUDGET_KEYS = {"name", "_target_", "steps", "batch_size", "eval_every", "target", "loss_scale"} | DOCUMENTATION


def mapping(value: object) -> Mapping[str, Any]:
    """`value` where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def flatten(value: object, prefix: str) -> dict[str, Plain]:
    """Nested objects and lists as dotted keys (`betas` -> `betas.0`, `betas.1`) with scalar values.

    Raises:
        ValueError: more than `MAX_KEYS` leaves, which no configuration of ours has.
    """
    leaves: dict[str, Plain] = {}
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


def _flatten_all(sections: Mapping[str, object]) -> dict[str, Plain]:
    return {
        key: value
        for name, section in list(sections.items())[:MAX_KEYS]
        for key, value in flatten(section, clean_text(name)).items()
    }


def _scalar(item: object) -> Plain:
    if item is None or isinstance(item, bool):
        return item
    if isinstance(item, int | float):
        value = number(item)
        return item if math.isfinite(value) else None
    return clean_text(item)


def number(value: object) -> float:
    """`value` as a float, NaN where it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def parse_record(run: Run) -> dict[str, object]:
    """The row of `runs` that one run makes: the columns named in `bench.analysis`, without `path`.

    Raises:
        ValueError: in one line, why this run cannot be used.
    """
    config, environment = run.config, run.environment
    row = _identity(run)
    row.update(_settings(config, environment.device))
    row.update(_optimizer(mapping(config.get("optimizer")), config))
    row.update(_summary(run.summary))
    row["options"] = _flatten_all({name: value for name, value in config.items() if name not in SECTIONS})
    row |= {"pack_size": float(run.pack.size), "shared_timing": run.pack.shared_timing}
    for name in ("torch", "python", "platform", "device_name", "git", "bench_version", "time"):
        row[name] = clean_text(getattr(environment, name))
    row["num_threads"] = float(environment.num_threads)
    return row


def _identity(run: Run) -> dict[str, object]:
    return {
        "run_id": run.run_id,
        "status": run.status,
        "seed": run.seed,
        **{kind: clean_text(mapping(run.config.get(kind)).get("name")) for kind in ("task", "optimizer")},
        "sweep": clean_text(run.sweep.name if run.sweep else ""),
        "stage": run.stage,
        "replicate": run.sweep.replicate if run.sweep else 0,
        "objective": f"{weights_of(run, run.sweep.objective if run.sweep else RAW_LOSS)}{RAW_LOSS}",
        "sweep_keys": tuple(sorted(clean_text(key) for key in list(run.sweep.cell if run.sweep else ())[:MAX_KEYS])),
        "data_fingerprint": clean_text(run.fingerprint.data),
        "code_fingerprint": clean_text(run.fingerprint.code),
    }


def _settings(config: Mapping[str, Any], device: str) -> dict[str, object]:
    task = mapping(config.get("task"))
    target, scale = mapping(task.get("target")), number(task.get("loss_scale"))
    # Where the data lie says nothing about them: their fingerprint does.
    own = flatten({k: v for k, v in task.items() if k not in BUDGET_KEYS and not is_place(k)}, "task")
    return {
        "task_target": clean_text(task.get("_target_")),
        "steps": number(task.get("steps")),
        "batch_size": number(task.get("batch_size")),
        "eval_every": number(task.get("eval_every")),
        "loss_scale": 1.0 if math.isnan(scale) else scale,
        "relevant": number(task.get("relevant")),
        "target_metric": clean_text(target.get("metric")),
        "target_value": number(target.get("value")),
        "target_mode": "max" if target.get("mode") == "max" else "min",
        "precision": clean_text(config.get("precision")),
        # "auto" is a wish; the environment tells where the run really was.
        "device": clean_text(device),
        "stop_at_target": config.get("stop_at_target") is True,
        "task_options": json.dumps(own, sort_keys=True),
        "context": number(task.get("context")),
    }


def _optimizer(optimizer: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, object]:
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


def _summary(summary: Summary) -> dict[str, float | str]:
    names = ("initial_val_loss", "final_val_loss", "final_test_loss", "best_val_loss", "final_val_accuracy",
             "train_seconds", "step_seconds", "alone_step_seconds", "optimizer_share", "num_parameters", "state_bytes",
             "samples_per_step")  # fmt: skip
    figures = summary.figures
    metrics = [name for name in figures if name.startswith("final_") and METRIC_NAME.fullmatch(name)]
    return {name: number(figures.get(name)) for name in [*names, *metrics[:MAX_KEYS]]} | {
        "message": clean_text(summary.message)
    }
