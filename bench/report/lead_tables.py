"""What a lead rests on: whether tuned hyperparameters transfer, and how much of it averaging has."""

import math

import pandas as pd

from bench.analysis.findings import Findings
from bench.analysis.frames import each
from bench.errors import count_of
from bench.report.table import MISSING, Table, make_table, ratio_text


def lead_tables(found: Findings) -> list[Table]:
    """Transfer and averaging; empty where no run tells of them."""
    return [transfer_table(found.transfer), averaging_table(found.averaging)]


def transfer_table(scores: pd.DataFrame) -> Table:
    """The loss on held-out variants with what was tuned on the task itself."""
    rows = list(each(scores))
    frame = scores.assign(
        ratio=[MISSING if math.isnan(row.difference) else ratio_text(row.difference) for row in rows],
        interval=[_interval(row.low, row.high) for row in rows],
        failures=[f"{row.failed} and {row.baseline_failed} of {row.num_variants}" for row in rows],
    )
    columns = {"setting": "task", "optimizer": "optimizer", "baseline": "against", "ratio": "loss ×",
               "interval": "95 % interval", "num_variants": "variants", "num_pairs": "pairs of runs",
               "failures": "variants with failures"}  # fmt: skip
    note = (
        "Ratio of final losses on held-out variants of the task (`task.variant=N`), both trained with what was tuned "
        "on the task itself: geometric mean over variants, below 1 is better. The interval has the variant as its unit "
        "and needs three; failures are those of the optimizer and of the baseline."
    )
    return make_table(frame, columns, title="Transfer to held-out variants", note=note)


def averaging_table(shares: pd.DataFrame) -> Table:
    """Leads by the weights in training and by averages, and how much of them an averaged baseline has too."""
    rows = list(each(shares))
    frame = shares.assign(
        **{
            column: [
                f"{ratio_text(mean)} ({_interval(low, high)})"
                for mean, low, high in shares[[name, f"{name}_low", f"{name}_high"]].to_numpy(dtype=float)
            ]
            for column, name in (("raw_text", "raw"), ("averaged_text", "averaged"), ("gain_text", "gain"))
        },
        share_text=[MISSING if math.isnan(row.share) else f"{100 * row.share:.0f} %" for row in rows],
        units=[count_of(row.num_units, row.unit) for row in rows],
        chosen=[f"{row.weights or 'none'} and {row.baseline_weights or 'none'}" for row in rows],
    )
    columns = {"setting": "task", "optimizer": "optimizer", "baseline": "against", "raw_text": "loss ×, raw",
               "averaged_text": "both averaged", "gain_text": "baseline averaged to raw",
               "share_text": "share of averaging", "chosen": "averages", "units": "paired"}  # fmt: skip
    note = (
        "Ratios of final losses, in brackets their 95 % intervals; below 1 is better. Averaged: each arm by the "
        "average of its weights, or by the weights, whichever has the lowest validation loss. Share of averaging: the "
        "part of the raw lead, on a logarithmic scale, that averaging alone gives the baseline; an estimate without an "
        "interval, only where the raw lead is beyond doubt, and above 100 % where averaging gives the baseline more "
        "than the lead."
    )
    return make_table(frame, columns, title="How much of a lead is averaging's", note=note)


def _interval(low: float, high: float) -> str:
    return f"{ratio_text(low)} to {ratio_text(high)}" if math.isfinite(low) and math.isfinite(high) else MISSING
