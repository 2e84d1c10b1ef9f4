"""One name, one arm: another class, option, code or torch under the same name is an arm of its own, and is named so."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from bench.analysis.frames import groups

NUM_DIGITS = 7  # of a code fingerprint, as git shows them


def label_arms(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Renames optimizers so that a name stands for one thing in every setting.

    - Runs of a folder with a label (`mine=DIR`) carry it: `adamw (mine)`.
    - Two classes under one name carry their class: `adamw [mine.AdamW]`.
    - Options that are no numbers and were not swept split: `adamw`, `adamw nesterov`, `adamw method=coupled`.
    - Of several versions of the code, or of torch, the newest keeps the name: `adamw @a1b2c3d`, `adamw torch 2.12.0`.

    Args:
        runs: With the column `setting`.

    Returns:
        The runs, and a sentence for every name that was split by versions, or is not the same under all labels.
    """
    label_notes = _describe_labels(runs)
    runs = runs.assign(optimizer=runs["optimizer"] + runs["label"].map(label_suffix))
    classes = runs.groupby("optimizer")["optimizer_target"].transform("nunique")
    runs["optimizer"] = runs["optimizer"].where(classes <= 1, runs["optimizer"] + " [" + runs["optimizer_target"] + "]")
    runs = _extend_names(runs, _option_suffixes)
    unversioned = runs["optimizer"]
    runs = _extend_names(runs, _version_suffixes)
    notes = [
        f"{setting}: {name} ran with {count} versions of code or torch, an arm each; the newest keeps the name."
        for (setting, name), group in groups(runs.assign(name=unversioned), ["setting", "name"])
        if (count := group["optimizer"].nunique()) > 1
    ]
    return runs, notes + label_notes


def label_suffix(label: str) -> str:
    """What the name of an optimizer ends in for the runs of a folder with this label."""
    return f" ({label})" if label else ""


def _describe_labels(runs: pd.DataFrame) -> list[str]:
    """A sentence on each optimizer that differs between labels in what none of them varies."""
    settings: dict[str, list[str]] = {}
    for (setting, name), group in groups(runs, ["setting", "optimizer"]):
        values = {label or "no label": _values(part) for label, part in groups(group, "label")}
        differing = [
            f"{key} {', '.join(f'{_only(seen, key)} ({label})' for label, seen in values.items())}"
            for key in sorted(set().union(*values.values()))
            if all(len(seen.get(key, ())) <= 1 for seen in values.values())
            and len({_only(seen, key) for seen in values.values()}) > 1
        ]
        if differing:
            text = f"{name} is not the same under each label: {'; '.join(differing)}."
            settings.setdefault(text, []).append(setting)
    return [f"{', '.join(names)}: {text}" for text, names in settings.items()]


def _values(runs: pd.DataFrame) -> dict[str, set[str]]:
    """What the hyperparameters, torch and the code are among the runs, as text."""
    seen = {"torch": set(runs["torch"]), "code": set(runs["code_fingerprint"].str[:NUM_DIGITS])}
    for cell in runs["hyperparameters"]:
        for key, value in cell.items():
            seen.setdefault(key.removeprefix("optimizer."), set()).add("none" if value is None else str(value))
    return seen


def _only(seen: Mapping[str, set[str]], key: str) -> str:
    return next(iter(seen.get(key, ())), "not set")


def _extend_names(runs: pd.DataFrame, suffixes_of: Callable[[pd.DataFrame], pd.Series]) -> pd.DataFrame:
    suffixes = pd.concat([suffixes_of(group) for _, group in groups(runs, ["setting", "optimizer"])])
    return runs.assign(optimizer=runs["optimizer"] + suffixes)


def _option_suffixes(group: pd.DataFrame) -> pd.Series:
    swept = {key for keys in group["sweep_keys"] for key in keys}
    options = [_options(values, swept) for values in group["hyperparameters"]]
    names = sorted({name for values in options for name in values})
    varying = [name for name in names if len({values.get(name) for values in options}) > 1]
    texts = ["".join(_describe(name, values.get(name)) for name in varying) for values in options]
    return pd.Series(texts, index=group.index, dtype=object)


def _options(values: Mapping[str, Any], swept: set[str]) -> dict[str, bool | str]:
    return {
        key.removeprefix("optimizer."): value
        for key, value in values.items()
        if key.startswith("optimizer.") and isinstance(value, bool | str) and not _is_swept(key, swept)
    }


def _is_swept(key: str, swept: set[str]) -> bool:
    """Whether a key, or a list or mapping that it lies in, was an axis."""
    return any(f"{key}.".startswith(f"{axis}.") for axis in swept)


def _describe(name: str, value: bool | str | None) -> str:
    if value is True:
        return f" {name}"
    return "" if value in (None, False) else f" {name}={value}"


def _version_suffixes(group: pd.DataFrame) -> pd.Series:
    newest = group.loc[group["time"].sort_values(kind="stable").index[-1]]
    code = group["code_fingerprint"].str[:NUM_DIGITS].radd(" @").where(
        group["code_fingerprint"] != newest["code_fingerprint"], ""
    )  # fmt: skip
    torch = group["torch"].radd(" torch ").where(group["torch"] != newest["torch"], "")
    return code + torch
