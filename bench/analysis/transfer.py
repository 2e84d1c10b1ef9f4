"""Do hyperparameters transfer? What was tuned on a task, trained on held-out variants of it without new tuning."""

import json

import numpy as np
import pandas as pd

from bench.analysis.frames import groups
from bench.analysis.intervals import mean_interval
from bench.analysis.pairs import Arms, pair_arms

FAMILY = ["task", "steps", "eval_every", "loss_scale", "precision", "device"]
COLUMNS = ["setting", "optimizer", "baseline", "num_variants", "num_pairs", "failed", "baseline_failed", "difference",
           "low", "high"]  # fmt: skip


def transfer_scores(used: pd.DataFrame, chosen: pd.DataFrame, baselines: dict[str, str]) -> pd.DataFrame:
    """Final losses on variants (`task.variant=N`) against the baseline's, each with what was tuned on the task itself.

    On a variant, an arm is the cells that were chosen on the task; where none of them ran there, the only one that did.

    Args:
        used: Comparable runs.
        chosen: From `selection.choose_cells`.
        baselines: Setting -> optimizer.

    Returns:
        `COLUMNS`, one row per task and optimizer; `setting` is the one of the task itself. The difference of
        logarithms is a mean over variants, and its 95 % interval has the variant as its unit. Failed: variants on which
        a run of the optimizer, or of the baseline, failed; losses are those of runs that succeeded.
    """
    numbers = [json.loads(text).get("task.variant") or 0 for text in used["task_options"]]
    used = used.assign(variant=numbers)
    used = used[used["scale"] == "log"]
    rows = []
    for _, family in groups(used, FAMILY):
        own, variants = family[family["variant"] == 0], family[family["variant"] != 0]
        for setting, group in groups(own, "setting") if len(variants) else ():
            baseline = baselines.get(str(setting), "")
            tuned = chosen[chosen["setting"] == setting]
            cells = {str(name): set(rows["cell"]) for name, rows in groups(tuned, "optimizer")}
            for optimizer in sorted(set(group["optimizer"]) - {baseline}):
                pairs = [
                    pair_arms(_tuned_runs(variant, optimizer, cells), _tuned_runs(variant, baseline, cells), "score")
                    for _, variant in groups(variants, "setting")
                ]
                rows.append([setting, optimizer, baseline, *_summarize(pairs)])
    return pd.DataFrame([row for row in rows if row[3]], columns=COLUMNS)


def _tuned_runs(variant: pd.DataFrame, optimizer: str, cells: dict[str, set[str]]) -> pd.DataFrame:
    runs = variant[variant["optimizer"] == optimizer]
    tuned = runs[runs["cell"].isin(cells.get(optimizer, set()))]
    return runs if tuned.empty and runs["cell"].nunique() == 1 else tuned


def _summarize(pairs: list[Arms]) -> list[object]:
    tried = [arms for arms in pairs if arms.num_units and arms.other_units]
    means = np.array([arms.differences.mean() for arms in tried if len(arms.differences)])
    failed = [sum(arms.failed > 0 for arms in tried), sum(arms.other_failed > 0 for arms in tried)]
    return [len(tried), sum(arms.num_runs for arms in tried), *failed, *mean_interval([means])[:3]]
