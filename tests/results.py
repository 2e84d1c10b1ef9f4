"""What a results folder holds, by run id."""

import json
from pathlib import Path
from typing import Any

import pandas as pd


def stored(results: Path) -> dict[str, dict[str, Any]]:
    """Every `run.json`."""
    runs = {path.parent.name: json.loads(path.read_text()) for path in results.glob("*/*/*/run.json")}
    assert all(run["run_id"] == name for name, run in runs.items())
    return runs


def losses(results: Path) -> dict[str, str]:
    """All columns but times; as text, in which NaN equals NaN and every bit shows."""
    return {
        path.parent.name: repr(pd.read_parquet(path).filter(regex="^(?!.*_seconds$)").to_dict("list"))
        for path in results.glob("*/*/*/metrics.parquet")
    }
