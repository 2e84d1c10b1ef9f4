"""What may be compared with what: runs are split into settings, and what fits nowhere is left out and named."""

import json
import math

import numpy as np
import pandas as pd

from bench.analysis.arms import label_arms
from bench.analysis.frames import groups
from bench.analysis.scores import log_loss
from bench.config.sweep import RAW_LOSS
from bench.errors import count_of
from bench.training.record import FINISHED

SETTING_KEYS = ["task", "data_fingerprint", "task_options", "steps", "batch_size", "eval_every", "loss_scale",
                "precision", "device", "stop_at_target"]  # fmt: skip
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def prepare(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Adds the columns that `bench.analysis` names, and keeps only what a comparison may use.

    Args:
        runs: The frame of `load.load`.

    Returns:
        All runs with the new columns, those of them that comparisons use, and sentences on what was split or left out.
    """
    if runs.empty:
        return runs, runs, []
    cells = [json.dumps(value, sort_keys=True) for value in runs["hyperparameters"]]
    runs, arm_notes = label_arms(runs.assign(cell=cells, setting=label_settings(runs)))
    runs = _add_losses(runs)
    used = runs[runs["status"].isin(FINISHED) & runs["finite_loss"].notna() & ~runs["stop_at_target"]]
    notes = _describe_splits(runs) + _describe_left_out(runs, used) + arm_notes + _describe_copies(used)
    newest = used.sort_values("time", kind="stable").duplicated(
        ["setting", "optimizer", "cell", "seed", "sweep", "stage", "replicate"], keep="last"
    )
    doubled = newest.index[newest]
    if len(doubled):
        notes.append(f"Left out as older repetitions of the same trial: {count_of(len(doubled), 'run')}.")
    used = used.drop(index=doubled)
    return runs, used, notes


def _add_losses(runs: pd.DataFrame) -> pd.DataFrame:
    usable = runs["status"].isin(FINISHED)
    validated, test = (_final_losses(runs, split) for split in ("val", "test"))
    loss = _failed_as_infinite(validated, runs["status"])
    untrained = runs["initial_val_loss"].fillna(runs.groupby("setting")["initial_val_loss"].transform("median"))
    tested = (test.notna() | (runs["status"] != "completed")).groupby(runs["setting"]).transform("all")
    tested &= test.notna().groupby(runs["setting"]).transform("any")
    judged = _failed_as_infinite(test.where(tested, validated), runs["status"])
    signed = (judged < 0).groupby(runs["setting"]).transform("any")
    return runs.assign(
        loss=loss,
        finite_loss=loss.where(np.isfinite(loss) | ~usable, untrained),
        split=np.where(tested, "test", "validation"),
        judged_loss=judged,
        scale=np.where(signed, "linear", "log"),
        score=judged.where(signed, log_loss(judged)),
        relevant=runs["relevant"].groupby(runs["setting"]).transform("min").mask(signed),
    )


def _final_losses(runs: pd.DataFrame, split: str) -> pd.Series:
    """Of each run, the final loss of the weights that its search goes by."""
    losses = pd.Series(np.nan, index=runs.index)
    for objective, group in runs.groupby("objective"):
        column = f"final_{str(objective).removesuffix(RAW_LOSS)}{split}_loss"
        losses[group.index] = group.get(column, np.nan)
    return losses


def _failed_as_infinite(losses: pd.Series, statuses: pd.Series) -> pd.Series:
    trained = (statuses == "completed") & np.isfinite(losses)
    return losses.mask(statuses.isin(FINISHED) & ~trained, math.inf)


def label_settings(runs: pd.DataFrame) -> pd.Series:
    """A readable label for each combination of `SETTING_KEYS`: the task's name and what its settings differ in."""
    keys = runs[SETTING_KEYS].fillna(dict.fromkeys(("steps", "batch_size", "eval_every"), -1.0))
    labels = pd.Series("", index=runs.index, dtype=object)
    taken: set[str] = set()
    for task, group in groups(keys, "task"):
        settings = group.drop_duplicates()
        varying = [key for key in SETTING_KEYS[1:] if settings[key].nunique() > 1]
        for values, members in group.groupby(varying) if varying else [((), group)]:
            parts = [_describe(key, value, settings) for key, value in zip(varying, values, strict=True)]
            label = stem = " · ".join([str(task), *filter(None, parts)])
            # A label shortens; two settings must not become one by it.
            number = 1
            while label in taken:
                number += 1
                label = f"{stem} ({number})"
            taken.add(label)
            labels[members.index] = label
    return labels


def _describe(key: str, value: object, settings: pd.DataFrame) -> str:
    if key == "task_options":
        all_options = [json.loads(text) for text in settings["task_options"]]
        mine = json.loads(str(value))
        names = sorted({name for options in all_options for name in options})
        differing = [name for name in names if len({json.dumps(options.get(name)) for options in all_options}) > 1]
        return ", ".join(f"{name.removeprefix('task.')}={mine.get(name)}" for name in differing[:4])
    if key == "data_fingerprint":
        return f"data {str(value)[:8] or 'unknown'}"
    if key == "loss_scale":
        scale = float(str(value))
        return "" if scale == 1.0 else f"loss × {format_scale(scale)}"
    if key == "stop_at_target":
        return "stopped at the target" if value else ""
    if key in ("precision", "device"):
        return str(value) or f"{key} unknown"
    return {"steps": "{:g} steps", "batch_size": "batch {:g}", "eval_every": "every {:g}"}[key].format(value)


def format_scale(scale: float) -> str:
    """2⁻¹⁰ for an exact power of two, else the number."""
    mantissa, exponent = math.frexp(scale)
    if mantissa == 0.5 and exponent != 1:
        return f"2{str(exponent - 1).translate(SUPERSCRIPT)}"
    return f"{scale:g}"


def order_settings(used: pd.DataFrame) -> list[str]:
    """Settings as a reader wants them: by task, the unscaled loss first, then smaller and smaller scales."""
    settings = used.drop_duplicates("setting").sort_values(
        ["task", "loss_scale", "setting"], ascending=[True, False, True]
    )
    return list(settings["setting"])


def group_scales(used: pd.DataFrame) -> pd.DataFrame:
    """Settings that differ in nothing but the loss scale form a family, named after the one with the largest scale.

    Returns:
        setting, family, task, loss_scale; one row per setting, in the order of `order_settings`.
    """
    settings = used.drop_duplicates("setting").set_index("setting").loc[order_settings(used)].reset_index()
    same = [key for key in SETTING_KEYS if key != "loss_scale"]
    settings["family"] = settings.groupby(same, sort=False, dropna=False)["setting"].transform("first")
    return settings[["setting", "family", "task", "loss_scale"]]


def _describe_splits(runs: pd.DataFrame) -> list[str]:
    notes = []
    for task, group in groups(runs, "task"):
        if (count := group["setting"].nunique()) > 1:
            differing = [key.replace("_", " ") for key in SETTING_KEYS[1:] if group[key].nunique(dropna=False) > 1]
            notes.append(
                f"{task} was run in {count} settings that are never mixed; they differ in {', '.join(differing)}."
            )
    return notes


def _describe_copies(used: pd.DataFrame) -> list[str]:
    copies = used[used.duplicated("run_id", keep=False)]
    if copies.empty:
        return []
    equal = int((copies.groupby("run_id")["judged_loss"].nunique(dropna=False) == 1).sum())
    count = copies["run_id"].nunique()
    text = "in several of the folders, by configuration, data and code the same training"
    same = f"{equal} of them {'has' if equal == 1 else 'have'} the same final loss there, to the last bit."
    return [f"{count_of(count, 'run')} {'lies' if count == 1 else 'lie'} {text}; {same}"]


def _describe_left_out(runs: pd.DataFrame, used: pd.DataFrame) -> list[str]:
    left_out = runs.drop(index=used.index)
    counts = left_out[~left_out["stop_at_target"]]["status"].value_counts()
    notes = [
        f"Listed, and not compared: {count_of(count, 'run')} with status {status}." for status, count in counts.items()
    ]
    if count := int(left_out["stop_at_target"].sum()):
        text = f"{count_of(count, 'run')} with stop_at_target=true, without a final loss"
        notes.append(f"Listed, and not compared: {text}.")
    return notes
