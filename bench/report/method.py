"""How the numbers came about: settings, optimizers, machines, rules; and the list of every run."""

from dataclasses import dataclass

import pandas as pd

from bench.analysis.findings import Findings
from bench.analysis.frames import each, groups
from bench.errors import count_of
from bench.report.figures.style import format_number
from bench.report.table import MISSING, Table, make_table
from bench.report.tables import describe_cell, varying_keys

MAX_LISTED = 4000  # about 700 kB
RULES = (
    "A setting is everything that must agree before two runs are compared: task and its options, data fingerprint, "
    "steps, batch size, evaluation interval, loss scale, precision, device. Runs of different settings are never "
    "mixed.",
    "Tuning, curves and targets see the validation split; verdicts compare the loss on the test split, which is read "
    "once, after the last step. Where a setting has runs without a test loss, verdicts say validation.",
    "A claim about optimizers has the search as its unit: several independent searches, each with its own trials and "
    "tuning seeds, each one's best setting trained again on fresh seeds. With one search a claim is about the two "
    "settings, and its unit is the seed.",
    "Trial s of every optimizer starts from the same weights and sees the same batches, so differences are paired, by "
    "search or by seed. They are differences of logarithms of losses, shown as ratios, with Student's 95 % interval. "
    "In simulations it covers 94 to 97 % where both arms are equally noisy, but 86 to 89 % where the noise of one arm "
    "is strongly skewed and the other has next to none.",
    "Practically the same goes before everything: the interval lies within the margin that the task declares. Better "
    "or worse: the interval excludes a ratio of 1, and the p-value, corrected by Holm's method for every claim of the "
    "page (losses, failures, held-out variants, all tasks), is at most 0.05. All else is unresolved. With fewer than 3 "
    "pairs there is no interval.",
    "A diverged run is a failure, an outcome of its own: rates have exact intervals (Clopper and Pearson) and are "
    "compared by Fisher's exact test. Losses are compared given success. Runs that failed for other reasons, timed out "
    "or were interrupted are listed and not compared.",
    "All tasks are judged together from five tasks on, by the mean logarithm, and not where tasks disagree.",
    "Power is that of the paired t-test at the corrected level, from an upper limit of the standard deviation, for the "
    "margin that matters and never for the difference that was observed.",
    "A target counts as reached at a run's first evaluation at or past it; missed is infinite and stays "
    "in every median. The interval of a ratio of steps counts in that the crossing lies anywhere since the evaluation "
    "before; where the mean over runs crosses is said beside it.",
    "Seconds come from interleaved rounds measured for that purpose, or are not measured. Clocks of training runs rank "
    "nobody.",
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
    title = f"The pool: {count_of(len(rows), 'optimizer')}"
    return make_table(pd.DataFrame(rows, columns=list(columns)), columns, title=title)


def _machine_table(used: pd.DataFrame) -> Table:
    columns = {
        "device_name": "hardware", "device": "device", "num_threads": "threads", "platform": "platform",
        "python": "Python", "torch": "torch", "bench_version": "version", "git": "commit",
    }  # fmt: skip
    grouped = used.groupby(list(columns), dropna=False)
    frame = grouped.agg(runs=("run_id", "size"), first=("time", "min"), last=("time", "max")).reset_index()
    return make_table(
        frame, columns | {"runs": "runs", "first": "first", "last": "last"}, title="Machines and versions",
        formats=dict.fromkeys(("first", "last"), _to_the_minute),
    )  # fmt: skip


def _to_the_minute(time: str) -> str:
    """2026-01-01 07:30 of 2026-01-01T07:30:12+00:00."""
    return time[:16].replace("T", " ")


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
        "final_val_loss": "final val loss", "judged_loss": "judged loss", "pack_size": "pack", "message": "message",
    }  # fmt: skip
    # Columns that say nothing cost bytes on every one of thousands of rows.
    for name in ("cell_text", "sweep", "message"):
        if not group[name].any():
            del columns[name]
    return make_table(group, columns, title="")
