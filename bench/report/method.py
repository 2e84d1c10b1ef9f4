"""How the numbers came about: settings, optimizers, machines, rules; and the list of every run."""

from dataclasses import dataclass

import pandas as pd

from bench.analysis.findings import Findings
from bench.analysis.frames import each, groups
from bench.report.figures.style import format_number
from bench.report.table import MISSING, Table, make_table, milliseconds
from bench.report.tables import describe_cell, varying_keys

MAX_LISTED = 20_000
RULES = (
    "A setting is everything that must agree before two runs are compared: task and its options, data fingerprint, "
    "steps, batch size, evaluation interval, loss scale, precision, device. Runs of different settings are never "
    "mixed.",
    "Trial s of every optimizer starts from the same weights and sees the same batches, so differences are taken seed "
    "by seed.",
    "Two optimizers are called distinguishable only where both the studentised and the percentile-bootstrap interval "
    "of the paired difference exclude zero and the p-value, corrected by Holm's method for all comparisons of the "
    "table, is at most 0.05. With fewer than 3 pairs nothing is called distinguishable.",
    "A diverged run is a result: it counts as infinite in medians and as an untrained model in means and differences. "
    "Runs that failed, timed out or were interrupted are listed and not compared.",
    "A target counts as reached at the first evaluation at or past it, by step and by training time; missed is "
    "infinite and stays in every median.",
    "Time shared by the trials of a pack ranks nobody. Evaluation is not counted as training time.",
    "All intervals are at 95 %; the bootstrap is seeded and resamples within tasks.",
)


@dataclass(frozen=True)
class RunGroup:
    """The runs of one optimizer in one setting, as text."""

    title: str
    table: Table


def method_tables(found: Findings) -> list[Table]:
    """Settings, optimizers, machines."""
    used = found.used
    goals = {
        goal.setting: f"{goal.metric} {'≤' if goal.mode == 'min' else '≥'} {goal.value:g}"
        for goal in each(found.targets)
    }
    settings = used.drop_duplicates("setting").set_index("setting").loc[list(found.settings["setting"])].reset_index()
    counts = used.groupby("setting").agg(runs=("run_id", "size"), seeds=("seed", "nunique")).reset_index()
    settings = settings.merge(counts, on="setting")
    settings["target"] = [goals.get(setting, MISSING) for setting in settings["setting"]]
    settings["data"] = [text[:12] for text in settings["data_fingerprint"]]
    columns = {
        "setting": "setting", "steps": "steps", "batch_size": "batch", "target": "target", "precision": "precision",
        "device": "device", "num_parameters": "parameters", "runs": "runs", "seeds": "seeds",
        "data": "data fingerprint",
    }  # fmt: skip
    note = "The budget is the same for every optimizer of a setting."
    return [make_table(settings, columns, title="Settings", note=note), _optimizer_table(used), _machine_table(used)]


def _optimizer_table(used: pd.DataFrame) -> Table:
    rows = []
    for name, group in groups(used, "optimizer"):
        first = group.iloc[0]
        space = ", ".join(
            f"{key.removeprefix('optimizer.')} {format_number(low)} to {format_number(high)}"
            for key, (low, high) in first["search_space"].items()
        )
        per_parameter = (group["state_bytes"] / group["num_parameters"]).median()
        rows.append((name, first["optimizer_target"], first["eps_convention"], space, per_parameter, first["paper"]))
    columns = {
        "optimizer": "optimizer", "target": "class", "eps_convention": "where eps stands",
        "search_space": "search space", "state": "state (bytes per parameter)", "paper": "source",
    }  # fmt: skip
    return make_table(pd.DataFrame(rows, columns=list(columns)), columns, title=f"The pool: {len(rows)} optimizers")


def _machine_table(used: pd.DataFrame) -> Table:
    columns = {
        "device_name": "hardware", "device": "device", "num_threads": "threads", "platform": "platform",
        "python": "Python", "torch": "torch", "bench_version": "version", "git": "commit",
    }  # fmt: skip
    grouped = used.groupby(list(columns), dropna=False)
    frame = grouped.agg(runs=("run_id", "size"), first=("time", "min"), last=("time", "max")).reset_index()
    return make_table(
        frame, columns | {"runs": "runs", "first": "first", "last": "last"}, title="Machines and versions"
    )


def run_groups(runs: pd.DataFrame) -> tuple[list[RunGroup], str]:
    """Every run with its status, by setting and optimizer; and a sentence where the list is shortened."""
    listed, note = runs, ""
    if len(runs) > MAX_LISTED:
        listed = runs[runs["status"] != "completed"].head(MAX_LISTED)
        note = f"Of {len(runs)} runs only the {len(listed)} that did not complete are listed; tables/runs.csv has all."
    varying = varying_keys(runs)
    entries = []
    for (setting, optimizer), group in groups(listed, ["setting", "optimizer"]):
        counts = ", ".join(f"{count} {status}" for status, count in group["status"].value_counts().items())
        entries.append(RunGroup(f"{setting} · {optimizer}: {counts}", _run_table(group, varying[setting, optimizer])))
    return entries, note


def _run_table(group: pd.DataFrame, varying: set[str]) -> Table:
    group = group.sort_values(["loss", "seed"], kind="stable")
    group = group.assign(cell_text=[describe_cell(cell, varying) for cell in group["hyperparameters"]])
    columns = {
        "run_id": "run", "seed": "seed", "cell_text": "hyperparameters", "sweep": "sweep", "status": "status",
        "final_val_loss": "final loss", "best_val_loss": "best loss", "step_seconds": "ms per step",
        "pack_size": "pack", "message": "message",
    }  # fmt: skip
    # Columns that say nothing cost bytes on every one of thousands of rows.
    for name in ("cell_text", "sweep", "message"):
        if not group[name].any():
            del columns[name]
    return make_table(group, columns, title="", formats={"step_seconds": milliseconds})
