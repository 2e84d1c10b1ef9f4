"""What the interactive pictures of the page show, and the library that draws them, each compressed into one text."""

import base64
import gzip
import json
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd

from bench.analysis.findings import Findings
from bench.analysis.frames import each, groups
from bench.analysis.importance import MIN_EXPLAINED, MIN_TRIALS
from bench.analysis.sensitivity import is_log_key, number_of, swept_keys
from bench.errors import count_of
from bench.report.figures.style import LINES, Palette, format_number, short
from bench.report.tables import describe_cell, varying_keys

MAX_CURVES = 600  # on the whole page, with MAX_POINTS each about 150 kB
MAX_POINTS = 60
MAX_SEARCHES = 60
MAX_TRIALS = 300  # of one search
KEYS = ["setting", "optimizer", "sweep"]
TICK_GAP = 0.07  # of an axis, from its ends to the next label
DASHES = ("solid", "dash", "dot")


def compress(text: str) -> str:
    """The text as base64 of gzip, which the page's script takes apart again."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


@cache
def library() -> str:
    """The source of plotly.js, compressed."""
    from plotly.offline import get_plotlyjs  # late: only the page needs it

    return compress(get_plotlyjs())


def explore_data(found: Findings, metrics: pd.DataFrame, palette: Palette) -> str:
    """Learning curves, trials of searches and importances, compressed; the keys stand in `explore.js`."""
    names = sorted(set(found.used["optimizer"]))
    styles = {
        name: {"color": palette.color(name), "dash": DASHES[LINES.index(palette.line(name)["linestyle"])]}
        for name in names
    }
    data = {"styles": styles, "curves": curves(found, metrics), "searches": searches(found),
            "importances": importance_bars(found)}  # fmt: skip
    return compress(json.dumps(data, allow_nan=False, separators=(",", ":")))


def curves(found: Findings, metrics: pd.DataFrame) -> list[dict[str, object]]:
    """Validation loss of single runs by setting: those that count first, then the best of tuning."""
    varying = varying_keys(found.used)
    settings = list(found.settings["setting"])[:MAX_CURVES]
    used = found.used.assign(counts=found.used.index.isin(found.final.index))
    used = used.sort_values(["counts", "loss", "seed"], ascending=[False, True, True], kind="stable")
    drawn = used.groupby("setting").head(MAX_CURVES // len(settings))
    rows = dict(list(metrics[metrics["run"].isin(drawn.index)].groupby("run")))
    items: list[dict[str, object]] = []
    for setting in settings:
        runs = [
            {"optimizer": run.optimizer, "id": run.run_id, "counts": bool(run.counts), **_thin(rows[run.Index]),
             "text": f"{describe_cell(run.hyperparameters, varying[setting, run.optimizer])} seed={run.seed}".strip()}
            for run in each(drawn[drawn["setting"] == setting])
            if run.Index in rows
        ]  # fmt: skip
        values = [value for run in runs for value in run["y"] if value is not None]
        total = int((used["setting"] == setting).sum())
        note = (
            f"{len(runs)} of {count_of(total, 'run')}, each at up to {MAX_POINTS} of its evaluations. Thick: the "
            "runs that verdicts compare; thin: tuning, the best first. Hover over a curve to see its run, click it to "
            "go to the run's row. A click on a name hides the optimizer, a double click shows it alone."
        )
        items.append({"title": short(setting), "note": note, "runs": runs, "decades": _decades(values)})
    return items


def _thin(curve: pd.DataFrame) -> dict[str, list[float | None]]:
    """`MAX_POINTS` evaluations, the first and the last among them."""
    picked = np.unique(np.linspace(0, len(curve) - 1, MAX_POINTS).round().astype(int))
    values = curve["val_loss"].to_numpy()[picked]
    return {"x": [int(step) for step in curve["step"].to_numpy()[picked]], "y": [_rounded(value) for value in values]}


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _decades(values: Sequence[float]) -> float:
    """How many a log axis would span; 0 where values have no logarithm."""
    return math.log10(max(values) / min(values)) if values and min(values) > 0 else 0.0


def searches(found: Findings) -> list[dict[str, object]]:
    """The trials of every quasi-random search: their hyperparameters and losses as parallel axes."""
    cells = found.sweep_cells[found.sweep_cells["is_search"].astype(bool)]
    explained = found.importances.drop_duplicates(KEYS).set_index(KEYS)["explained"]
    items: list[dict[str, object]] = []
    for key, group in list(groups(cells, KEYS))[:MAX_SEARCHES]:
        setting, optimizer, _ = key
        finite = group[np.isfinite(group["loss"])].sort_values("loss").head(MAX_TRIALS)
        names = [name for name in swept_keys(finite) if all(name in values for values in finite["values"])]
        axes = [
            _axis(name.removeprefix("optimizer."), [number_of(v[name]) for v in finite["values"]]) for name in names
        ]
        if len(finite) < 2 or not axes:
            continue
        diverged = int(np.isinf(group["loss"]).sum())
        left_out = f"; the {diverged} that diverged are not drawn" if diverged else ""
        note = (
            f"{len(finite)} of {len(group)} trials of {optimizer} on {setting}, the best first{left_out}. Colour: the "
            "final validation loss. Drag along an axis to keep what lies there, click on it to let go."
            f"{_unimportant(explained.get(key))}"
        )
        axes.append(_axis("final val loss", list(finite["loss"])))
        items.append({"title": f"{short(setting)} · {short(optimizer)}", "note": note, "axes": axes})
    return items


def _unimportant(explained: float | None) -> str:
    if explained is None:
        return f" Too few trials, below {MIN_TRIALS}, to tell the importance of the keys."
    if explained >= MIN_EXPLAINED:
        return ""
    return (
        f" A random forest explains {100 * max(explained, 0):.0f} % of the ranks of losses that it has not seen, too "
        f"little, below {100 * MIN_EXPLAINED:.0f} %, to tell the importance of the keys."
    )


def _axis(label: str, values: list[float]) -> dict[str, object]:
    """Positions on an axis, and where it is labelled: its ends, and decades between them where the values span one."""
    log = is_log_key(values) and min(values) > 0
    positions = [float(f"{math.log10(value) if log else value:.6g}") for value in values]
    low, high = min(positions), max(positions)
    gap = TICK_GAP * (high - low)
    inner = [tick for tick in range(math.ceil(low), math.floor(high) + 1) if low + gap < tick < high - gap]
    ticks = [low, *(inner if log else [(low + high) / 2]), high]
    texts = [format_number(float(f"{10.0**tick if log else tick:.3g}")) for tick in ticks]
    return {"label": short(label.removeprefix("optimizer."), 18), "values": positions, "ticks": ticks, "texts": texts}


def importance_bars(found: Findings) -> list[dict[str, object]]:
    """Importances by search, the largest first; only where the forests learned something."""
    known = found.importances[found.importances["explained"] >= MIN_EXPLAINED]
    items: list[dict[str, object]] = []
    for (setting, optimizer, _), group in groups(known, KEYS):
        ordered = group.sort_values("importance", ascending=False)
        bars = [
            {"key": short(row.key.removeprefix("optimizer."), 18),
             **{name: _rounded(getattr(row, name)) for name in ("importance", "low", "high")}}
            for row in each(ordered)
        ]  # fmt: skip
        note = importance_note(int(group["num_trials"].iloc[0]), float(group["explained"].iloc[0]))
        items.append({"title": f"{short(setting)} · {short(optimizer)}", "note": note, "bars": bars})
    return items


def importance_note(num_trials: int, explained: float) -> str:
    """What the bars are, how much they rest on, and what they do not say."""
    return (
        f"By how much a random forest's squared error grows when the key is shuffled, in units of the variance; 95 % "
        f"interval over n = {num_trials} trials. The forest explains {100 * explained:.0f} % of the ranks of losses "
        "that it has not seen. This is what mattered within the ranges of this search: another range, or another "
        "search of as many trials, may order the keys otherwise."
    )
