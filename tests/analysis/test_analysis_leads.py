"""What a lead rests on: averaging, and hyperparameters that transfer to held-out variants."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from bench.analysis.averaging import averaging_shares
from bench.analysis.transfer import transfer_scores
from bench.report.lead_tables import averaging_table, transfer_table
from tests.analysis.frames_for_tests import final_frame

BASE = np.array([1.0, 1.1, 0.9, 1.05])


def averaged_frame(base_gain: float, new_gain: float, *, lead: float = 0.5) -> pd.DataFrame:
    """Final runs with two averages, the better of which multiplies the loss by a gain."""
    final = final_frame({"base": BASE, "new": lead * BASE * [1.0, 1.01, 0.99, 1.0]})
    gains = final["optimizer"].map({"base": base_gain, "new": new_gain})
    return final.assign(
        **{f"final_{split}_loss": final["loss"] for split in ("val", "test")},
        **{f"final_ema_0.98_{split}_loss": final["loss"] * gains for split in ("val", "test")},
        **{f"final_ema_0.9_{split}_loss": final["loss"] * 3 for split in ("val", "test")},
    )


def test_the_share_of_averaging_is_what_the_averaged_baseline_has_of_the_lead() -> None:
    (row,) = averaging_shares(averaged_frame(0.5**0.5, 0.9), {"task": "base"}).to_dict("records")
    assert math.exp(row["raw"]) == pytest.approx(0.5, rel=1e-2)
    assert math.exp(row["gain"]) == pytest.approx(0.5**0.5)
    assert math.exp(row["averaged"]) == pytest.approx(0.5 * 0.9 / 0.5**0.5, rel=1e-2)
    assert row["share"] == pytest.approx(0.5, rel=1e-2)
    assert (row["weights"], row["baseline_weights"], row["num_units"]) == ("ema_0.98", "ema_0.98", 4)
    assert "50 %" in averaging_table(averaging_shares(averaged_frame(0.5**0.5, 0.9), {"task": "base"})).rows[0]


def test_an_average_that_is_worse_by_validation_is_not_taken_whatever_the_test_says() -> None:
    final = averaged_frame(0.9, 0.9)
    final["final_ema_0.98_val_loss"] *= 2
    (row,) = averaging_shares(final, {"task": "base"}).to_dict("records")
    assert (row["weights"], row["baseline_weights"], row["gain"]) == ("", "", 0.0)


def test_without_a_sure_lead_averaging_has_no_share_of_it_and_without_averages_there_is_no_row() -> None:
    assert math.isnan(averaging_shares(averaged_frame(0.9, 0.9, lead=1.0), {"task": "base"})["share"].item())
    plain = final_frame({"base": BASE, "new": BASE / 2}).assign(final_val_loss=1.0)
    assert averaging_shares(plain, {"task": "base"}).empty


def variant_runs(ratios: list[float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A task and its variants: two seeds of each arm's tuned cell, and of a better one that was not tuned."""
    facts = {"task": "mlp", "steps": 10.0, "eval_every": 5.0, "loss_scale": 1.0, "precision": "float32",
             "device": "cpu", "replicate": 0, "scale": "log"}  # fmt: skip
    rows = []
    for number, ratio in enumerate([1.0, *ratios]):
        for optimizer, factor in (("base", 1.0), ("new", ratio)):
            for cell, bonus in (("tuned", 1.0), ("lucky", 0.01)):
                rows += [
                    facts | {"setting": f"mlp {number}", "optimizer": optimizer, "cell": cell, "seed": seed,
                             "task_options": json.dumps({"task.variant": number, "task.width": 4}),
                             "score": math.log((seed + 1.0) * factor * bonus)}
                    for seed in (0, 1)
                ]  # fmt: skip
    chosen = pd.DataFrame([{"setting": "mlp 0", "optimizer": name, "cell": "tuned"} for name in ("base", "new")])
    return pd.DataFrame(rows), chosen


def test_transfer_is_the_mean_over_variants_of_what_was_tuned_on_the_task() -> None:
    used, chosen = variant_runs([0.5, 0.8, 2.0])
    (row,) = transfer_scores(used, chosen, {"mlp 0": "base"}).to_dict("records")
    assert math.exp(row["difference"]) == pytest.approx((0.5 * 0.8 * 2.0) ** (1 / 3))
    assert (row["setting"], row["num_variants"], row["num_pairs"], row["failed"]) == ("mlp 0", 3, 6, 0)
    logs = np.log([0.5, 0.8, 2.0])
    reach = 4.302653 * logs.std(ddof=1) / math.sqrt(3)
    assert (row["low"], row["high"]) == pytest.approx((logs.mean() - reach, logs.mean() + reach))


def test_transfer_counts_variants_with_failures_and_takes_an_only_cell() -> None:
    used, chosen = variant_runs([0.5, 0.8, 2.0])
    used.loc[(used["setting"] == "mlp 3") & (used["optimizer"] == "new"), "score"] = math.inf
    only = used[(used["setting"] == "mlp 0") | (used["cell"] == "lucky")]
    (row,) = transfer_scores(only, chosen, {"mlp 0": "base"}).to_dict("records")
    assert (row["num_variants"], row["failed"], row["baseline_failed"]) == (3, 1, 0)
    assert math.exp(row["difference"]) == pytest.approx((0.5 * 0.8) ** 0.5)
    assert "1 and 0 of 3" in transfer_table(transfer_scores(only, chosen, {"mlp 0": "base"})).rows[0]


def test_a_task_without_variants_has_no_transfer() -> None:
    used, chosen = variant_runs([])
    assert transfer_scores(used, chosen, {"mlp 0": "base"}).empty
