"""Budgets below a task's own: targets and margins were set for the whole of it."""

from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf

from bench.analysis.frames import groups


def describe_short_budgets(used: pd.DataFrame, conf: Path) -> list[str]:
    """One sentence on the settings that trained for fewer steps than their task's yaml asks for, if there are any.

    Args:
        used: Comparable runs.
        conf: The folder of configuration; what it does not have, a task of the user's own, is passed over.
    """
    files = {file.stem: file for file in (conf / "task").glob("*.yaml")}
    short = []
    for (task, target), runs in groups(used, ["task", "task_target"]):
        own = OmegaConf.to_container(OmegaConf.load(files[task])) if task in files else {}
        if isinstance(own, dict) and own.get("_target_") == target:
            tried = sorted(set(runs["steps"]))
            short += [f"{task} {steps:g} of {own['steps']}" for steps in tried if steps < own["steps"]]
    if not short:
        return []
    return [
        f"Fewer steps than the task's own: {', '.join(short)}. Targets and margins belong to the whole budget; "
        "below it, a target may be out of reach by design."
    ]
