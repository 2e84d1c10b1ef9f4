"""Frames as `bench.analysis` hands them on, small enough to be checked by hand."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd


def final_frame(
    losses: Mapping[str, Sequence[float]], *, setting: str = "task", initial: float = 10.0, relevant: float = 0.01
) -> pd.DataFrame:
    """Final runs of one setting and one search: optimizer -> loss by seed; inf stands for a diverged run."""
    rows = []
    for optimizer, values in losses.items():
        for seed, loss in enumerate(values):
            rows.append({
                "setting": setting, "task": setting, "optimizer": optimizer, "replicate": 0, "seed": seed, "loss": loss,
                "cell": "{}", "finite_loss": loss if np.isfinite(loss) else initial, "initial_val_loss": initial,
                "fresh": False, "status": "completed" if np.isfinite(loss) else "diverged", "loss_scale": 1.0,
                "judged_loss": loss, "score": np.log(loss), "scale": "log", "split": "test", "relevant": relevant,
            })  # fmt: skip
    frame = pd.DataFrame(rows)
    frame.index.name = "run"
    return frame


def curve_frame(
    run: int, values: Sequence[float], *, steps: Sequence[int] | None = None, cost: float = 1.0
) -> pd.DataFrame:
    """Metrics of one run: validation loss at steps 0, 10, 20, ..."""
    step = np.arange(len(values)) * 10 if steps is None else np.asarray(steps)
    return pd.DataFrame({"run": run, "step": step, "val_loss": values, "train_seconds": step * cost})


def cell_frame(
    cells: Sequence[tuple[dict[str, Any], float]], *, optimizer: str = "adam", is_search: bool = False
) -> pd.DataFrame:
    """Swept cells of one setting and sweep: (hyperparameters, median loss)."""
    rows = [
        {"setting": "task", "optimizer": optimizer, "sweep": "grid", "cell": json.dumps(values, sort_keys=True),
         "loss": loss, "low": loss, "high": loss, "losses": (loss,) * 3, "seeds": (0, 1, 2), "num_seeds": 3,
         "num_diverged": 0, "values": values, "is_search": is_search}
        for values, loss in cells
    ]  # fmt: skip
    return pd.DataFrame(rows)
