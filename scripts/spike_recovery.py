"""How a rule recovers from one step whose gradient is too large by a factor, and how long its steps remember it.

    python scripts/spike_recovery.py [--tasks mlp gpt_nano] [--out results/reference/spike]

Each rule trains at its yaml's defaults, without clipping, at a constant lr after the warm-up; seeds train as one pack.
The twin is the same training without the spike, on the same batches. All figures are of means over `WINDOW` steps.
"""

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import compose_plan, describe_machine, publish

from bench.report.figures.style import legend_below, log_axis, make_palette, panels, style_context
from bench.training.clock import StepClock
from bench.training.components import build_schedule
from bench.training.ensemble import Ensemble

RULES = ("madam", "adam", "laprop", "muon", "soap")
FACTORS = (1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6)  # the first is the twin
WINDOW = 10  # steps over which losses and movements are averaged
LATEST = 50  # steps after the spike within which its worst is; a later excess over the twin is another fluctuation
QUARTILES = (0.25, 0.5, 0.75)
FIGURES = {
    "level": "steps until back at the loss before the spike",
    "twin": "steps until within 1 % of the twin's loss",
    "memory": "steps until they are half as long as the twin's again",
}
TITLES = {"level": "steps to the loss before the spike", "memory": "steps shorter than half the twin's"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """A task in the size that is trained here: overrides, the step of the spike, and the number of seeds."""

    overrides: tuple[str, ...]
    num_steps: int
    spike: int
    num_seeds: int


SETTINGS = {
    "mlp": Setting((), 400, 150, 5),
    "gpt_nano": Setting(("task.batch_size=8",), 200, 60, 3),
}


def train(task: str, rule: str, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Training losses, and Euclidean lengths of the steps that follow them, each [steps, seeds]."""
    setting = SETTINGS[task]
    plan = compose_plan(
        f"optimizer={rule}", f"task={task}", f"task.steps={setting.num_steps}", *setting.overrides, "device=cpu",
        f"+task.spike={{step: {setting.spike}, factor: {factor:g}}}", "schedule=constant", "pack_size=1",
        f"+sweep.axes.seed=[range,0,{setting.num_seeds}]",
    )  # fmt: skip
    configs = [trial.config for trial in plan.trials]
    learner = Ensemble(plan.tasks.get(configs[0].task, "cpu"), configs)
    schedule, clock = build_schedule(configs[0].schedule, setting.num_steps), StepClock(torch.device("cpu"))
    losses, lengths = [], []
    for step in range(1, setting.num_steps + 1):
        before = [weight.clone() for weight in learner.weights.values()]
        losses.append(learner.step(schedule(step), clock).double())
        squares = [(new - old).flatten(1).double().square().sum(1)
                   for new, old in zip(learner.weights.values(), before, strict=True)]  # fmt: skip
        lengths.append(torch.stack(squares).sum(0).sqrt())
    return torch.stack(losses).numpy(), torch.stack(lengths).numpy()


def smooth(values: np.ndarray) -> np.ndarray:
    """Means over `WINDOW` values from each on, inf where one of them is no number."""
    means = np.lib.stride_tricks.sliding_window_view(values, WINDOW).mean(-1)
    return np.where(np.isfinite(means), means, np.inf)


def measure(curve: tuple[np.ndarray, np.ndarray], twin: tuple[np.ndarray, np.ndarray], spike: int) -> dict[str, float]:
    """The figures of one seed, in steps after the spike; inf where the budget was too short.

    Recovery is counted from the largest excess over the twin on, as momentum carries the weights away for some steps.
    """
    (loss, length), (twin_loss, twin_length) = ([smooth(values[spike:]) for values in pair] for pair in (curve, twin))
    worst = int((loss - twin_loss)[:LATEST].argmax())
    level = curve[0][spike - WINDOW : spike].mean()

    def first(is_back: np.ndarray) -> float:
        found = np.flatnonzero(is_back[worst:])
        return float(worst + found[0] + 1) if len(found) else np.inf

    short = np.flatnonzero(length < twin_length / 2)
    remembered = float(short[-1] + 1) if len(short) else 0.0
    is_over = remembered < len(length) and np.isfinite(length[-1])
    return {
        "level": first(loss <= level),
        "twin": first(loss <= 1.01 * twin_loss),
        "memory": remembered if is_over else np.inf,
        "final_ratio": float(loss[-1] / twin_loss[-1]),
    }


def make_rows(task: str) -> Iterator[list[Row]]:
    """A row per factor of one rule after the other: quartiles over seeds of every figure."""
    setting = SETTINGS[task]
    for rule in RULES:
        curves = {factor: train(task, rule, factor) for factor in FACTORS}
        rows = []
        for factor, curve in curves.items():
            by_seed = [
                measure(
                    (curve[0][:, seed], curve[1][:, seed]),
                    (curves[1.0][0][:, seed], curves[1.0][1][:, seed]),
                    setting.spike,
                )
                for seed in range(setting.num_seeds)
            ]
            row: Row = {"task": task, "optimizer": rule, "factor": factor, "seeds": setting.num_seeds}
            row["broken"] = int((~np.isfinite(curve[0]).all(0)).sum())
            for name in by_seed[0]:
                values = [one[name] for one in by_seed]
                for share, quantile in zip(
                    ("q1", "median", "q3"), np.quantile(values, QUARTILES, method="inverted_cdf"), strict=True
                ):
                    row[f"{name}_{share}"] = float(quantile)
            rows.append(row)
        yield rows


def make_lines(rows: Sequence[Row]) -> list[str]:
    lines = ["| task | `optimizer=` | factor | seeds | " + " | ".join(FIGURES.values()) + " | final loss / twin's |"]
    lines.append("| --- | --- | ---: | ---: |" + " ---: |" * (len(FIGURES) + 1))
    for row in rows:
        cells = [_quartiles(row, name) for name in (*FIGURES, "final_ratio")]
        lines.append(f"| {row['task']} | `{row['optimizer']}` | {row['factor']:g} | {row['seeds']} | "
                     f"{' | '.join(cells)} |")  # fmt: skip
    return [*lines, "", describe_machine("cpu")]


def _quartiles(row: Row, name: str) -> str:
    low, middle, high = (
        "never" if np.isinf(value) else f"{value:.3g}" for value in (row[f"{name}_{q}"] for q in ("q1", "median", "q3"))
    )
    return middle if low == high else f"{middle} ({low} to {high})"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Recovery and memory over the factor, one row of panels per task; the upper edge stands for "never"."""
    tasks, palette = list(dict.fromkeys(row["task"] for row in rows)), make_palette(RULES)
    shown = tuple(TITLES)
    with style_context():
        figure, axes = panels([f"{task}: {TITLES[name]}" for task in tasks for name in shown], palette, columns=2)
        for axis, (task, name) in zip(axes, [(task, name) for task in tasks for name in shown], strict=True):
            most = SETTINGS[task].num_steps - SETTINGS[task].spike - WINDOW + 1
            for rule in RULES:
                own = [row for row in rows if (row["task"], row["optimizer"]) == (task, rule)]
                factors = [row["factor"] for row in own]
                low, middle, high = (
                    [min(row[f"{name}_{q}"], 1.05 * most) for row in own] for q in ("q1", "median", "q3")
                )
                axis.plot(factors, middle, marker=palette.marker(rule), **palette.line(rule))
                axis.fill_between(factors, low, high, color=palette.color(rule), alpha=0.15, lw=0)
            log_axis(axis, "x")
            ticks = np.linspace(0, most, 4).round().astype(int)[:-1]
            axis.set_yticks([*ticks, 1.05 * most], [*map(str, ticks), "never"])
            axis.set_xlabel("factor on the gradient of one step")
        legend_below(figure, palette, RULES)
        figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--out", type=Path, default=Path("results/reference/spike"))
    args = parser.parse_args()
    rows: list[Row] = []
    for task in args.tasks:
        for own in make_rows(task):
            rows += own
            publish(make_lines(rows), args.out / "table.md")
    with (args.out / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, args.out / "spike.png")


if __name__ == "__main__":
    main()
