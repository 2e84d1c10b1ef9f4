"""All tables of a report, from loaded runs: the one place that knows which analysis builds on which."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from bench.analysis import (
    aggregates,
    comparability,
    convergence,
    diagnostics,
    epsilon,
    loss_scales,
    power,
    profiles,
    selection,
    sensitivity,
    speedup,
    step_times,
    targets,
    tuning,
    verdicts,
)
from bench.analysis.frames import each
from bench.analysis.load import Loaded


@dataclass(frozen=True)
class Findings:
    """What the report shows; each frame's columns stand at the function that makes it."""

    runs: pd.DataFrame
    used: pd.DataFrame
    final: pd.DataFrame
    problems: pd.DataFrame
    settings: pd.DataFrame
    notes: list[str]
    baselines: dict[str, str]
    chosen: pd.DataFrame
    cells: pd.DataFrame
    verdicts: pd.DataFrame
    overall: pd.DataFrame
    noise: pd.DataFrame
    convergence: pd.DataFrame
    targets: pd.DataFrame
    times: pd.DataFrame
    target_curves: pd.DataFrame
    rank_changes: pd.DataFrame
    speedups: pd.DataFrame
    costs: pd.DataFrame
    step_parts: pd.DataFrame
    sweep_cells: pd.DataFrame
    responses: pd.DataFrame
    flat_widths: pd.DataFrame
    edges: pd.DataFrame
    drift: pd.DataFrame
    tuning: pd.DataFrame
    profile_times: dict[str, pd.DataFrame]
    profile_scores: pd.DataFrame
    aggregates: pd.DataFrame
    scales: pd.DataFrame
    diagnostics: pd.DataFrame


def analyse(
    loaded: Loaded, *, baseline: str | None = None, target_overrides: Sequence[dict[str, object]] = (), seed: int = 0
) -> Findings | None:
    """Everything the report needs, or None where no run can be used.

    Raises:
        ValueError: a baseline or a task of a target that no run has.
    """
    if loaded.runs.empty:
        return None
    runs, used, notes = comparability.prepare(loaded.runs)
    if used.empty:
        return None
    _check_targets(target_overrides, used, loaded.metrics)
    chosen = selection.choose_cells(used)
    final, seed_notes = selection.final_runs(used, chosen)
    baselines = verdicts.choose_baselines(final, baseline)
    goals = targets.choose_targets(used, target_overrides)
    timed, timing_notes = comparability.timing_runs(used)
    frames = {"chosen": chosen, "cells": selection.summarize_cells(used), "targets": goals}
    frames |= _time_frames(used, timed, final, loaded.metrics, goals, baselines, seed)
    frames |= _sweep_frames(used, loaded.metrics, seed)
    counted = _one_setting_per_task(used)
    pooled, frames["profile_scores"], profile_notes = _profiles(frames["times"], counted)
    compared, comparison_notes = _comparison_frames(final, counted, baselines, seed)
    settings = comparability.group_scales(used)
    return Findings(
        runs=runs,
        used=used,
        final=final,
        problems=loaded.problems,
        settings=settings,
        notes=[
            *notes,
            *timing_notes,
            *seed_notes,
            *selection.describe_budgets(chosen),
            *profile_notes,
            *comparison_notes,
        ],
        baselines=baselines,
        profile_times=pooled,
        **_in_order(frames | compared, list(settings["setting"])),
    )


def _check_targets(overrides: Sequence[dict[str, object]], used: pd.DataFrame, metrics: pd.DataFrame) -> None:
    for override in overrides:
        for kind, known in (("task", set(used["task"])), ("metric", set(metrics.columns) - {"run", "step"})):
            if override[kind] is not None and override[kind] not in known:
                names = ", ".join(sorted(known))
                raise ValueError(f"no {kind} {override[kind]!r} in these runs (there are: {names})")


def _time_frames(
    used: pd.DataFrame,
    timed: pd.DataFrame,
    final: pd.DataFrame,
    metrics: pd.DataFrame,
    goals: pd.DataFrame,
    baselines: dict[str, str],
    seed: int,
) -> dict[str, pd.DataFrame]:
    costs = step_times.step_costs(used, timed)
    times = targets.times_to_target(final, metrics, goals, costs)
    return {
        "costs": costs,
        "times": times,
        "step_parts": step_times.step_parts(timed, metrics),
        "speedups": speedup.speedups(times, costs, baselines, seed=seed),
        "convergence": convergence.convergence(final, metrics, costs),
        "target_curves": targets.target_curves(final, metrics, goals),
        "rank_changes": targets.rank_changes(final, metrics, goals),
    }


def _sweep_frames(used: pd.DataFrame, metrics: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    cells = sensitivity.sweep_cells(used)
    responses = sensitivity.response_curves(cells)
    spaces = {row.optimizer: row.search_space for row in each(used.drop_duplicates("optimizer"))}
    return {
        "sweep_cells": cells,
        "responses": responses,
        "flat_widths": sensitivity.flat_widths(responses, cells),
        "edges": sensitivity.edge_flags(cells, spaces),
        "drift": epsilon.best_lr_drift(cells),
        "tuning": tuning.tuning_curves(used, seed=seed),
        "scales": loss_scales.compare_scales(used, metrics),
        "diagnostics": diagnostics.diagnostics(used, metrics),
    }


def _comparison_frames(
    final: pd.DataFrame, counted: list[str], baselines: dict[str, str], seed: int
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    names = list(baselines.values())
    main = max(sorted(set(names)), key=names.count) if names else None
    aggregated, left_out = aggregates.aggregate_scores(final, counted, main, seed=seed)
    frames = {
        "verdicts": verdicts.compare(final, baselines, seed=seed),
        "overall": verdicts.compare_overall(final, counted, main, seed=seed),
        "noise": power.noise_floor(final),
        "aggregates": aggregated,
    }
    notes = [f"Not run on every task, and so not in the aggregates: {', '.join(left_out)}."] if left_out else []
    return frames, notes


def _in_order(frames: dict[str, pd.DataFrame], settings: list[str]) -> dict[str, pd.DataFrame]:
    """Rows in the order in which a reader meets the settings; what spans all tasks or is indexed by run stays."""
    position = {setting: index for index, setting in enumerate(settings)}
    return {
        name: frame.sort_values("setting", key=lambda column: column.map(position), kind="stable", ignore_index=True)
        if "setting" in frame and name not in ("overall", "times")
        else frame
        for name, frame in frames.items()
    }


def _one_setting_per_task(used: pd.DataFrame) -> list[str]:
    """The settings that count over tasks: of each task the unscaled one with the most runs."""
    plain = used[used["loss_scale"] == 1.0]
    sizes = plain.groupby(["task", "setting"]).size().reset_index(name="num_runs")
    return list(sizes.sort_values(["task", "num_runs"], ascending=[True, False]).drop_duplicates("task")["setting"])


def _profiles(times: pd.DataFrame, settings: list[str]) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, list[str]]:
    """Profiles by steps, and by seconds where every clock of the pool is honest."""
    pooled, scores, notes = {}, [], []
    for measure in ("steps", "seconds"):
        medians, left_out = profiles.pool_times(times, f"{measure}_to_target", settings)
        if medians.shape[1] < 2 or medians.isna().any(axis=None):
            continue
        pooled[measure] = medians
        scores.append(profiles.profile_scores(medians).assign(measure=measure))
        if left_out and measure == "steps":
            notes.append(f"Not run on every task, and so not in the performance profile: {', '.join(left_out)}.")
    columns = ["measure", "optimizer", "score", "trapezoid", "num_reached", "num_tasks"]
    return pooled, pd.concat(scores)[columns] if scores else pd.DataFrame(columns=columns), notes
