"""All tables of a report, from loaded runs: the one place that knows which analysis builds on which."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bench.analysis import (
    averaging,
    comparability,
    convergence,
    diagnostics,
    epsilon,
    importance,
    loss_scales,
    profiles,
    ranks,
    selection,
    sensitivity,
    speedup,
    step_times,
    targets,
    transfer,
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
    verdicts: pd.DataFrame
    ranks: pd.DataFrame
    targets: pd.DataFrame
    costs: pd.DataFrame
    times: pd.DataFrame
    speedups: pd.DataFrame
    averaging: pd.DataFrame
    transfer: pd.DataFrame
    convergence: pd.DataFrame
    target_curves: pd.DataFrame
    rank_changes: pd.DataFrame
    profile_times: dict[str, pd.DataFrame]
    profile_scores: pd.DataFrame
    cells: pd.DataFrame
    sweep_cells: pd.DataFrame
    responses: pd.DataFrame
    flat_widths: pd.DataFrame
    edges: pd.DataFrame
    drift: pd.DataFrame
    importances: pd.DataFrame
    tuning: pd.DataFrame
    tuned: pd.DataFrame
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
    metrics = loaded.metrics
    _check_targets(target_overrides, used, metrics)
    counted = _one_setting_per_task(used)
    chosen = selection.choose_cells(used)
    final, seed_notes = selection.final_runs(used, chosen)
    baselines = verdicts.choose_baselines(final, baseline, loaded.labels)
    races = _races(loaded, used, final, baselines, targets.choose_targets(used, target_overrides))
    profile_times, profile_scores, profile_notes = profiles.profiles(races["times"], counted)
    found = Findings(
        runs=runs,
        used=used,
        final=final,
        problems=loaded.problems,
        settings=comparability.group_scales(used),
        notes=[*notes, *seed_notes, *selection.describe_budgets(chosen), *profile_notes],
        baselines=baselines,
        chosen=chosen,
        verdicts=verdicts.compare(final, baselines, counted),
        ranks=ranks.rank_optimizers(final, counted, seed=seed),
        averaging=averaging.averaging_shares(final, baselines),
        transfer=transfer.transfer_scores(used, chosen, baselines),
        profile_times=profile_times,
        profile_scores=profile_scores,
        tuned=tuning.tuned_against_default(used, final),
        scales=loss_scales.compare_scales(used, metrics),
        diagnostics=diagnostics.diagnostics(used, metrics),
        **races,
        **_sweeps(used, seed),
    )
    return _in_order(found)


def _races(
    loaded: Loaded, used: pd.DataFrame, final: pd.DataFrame, baselines: dict[str, str], goals: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """How soon who is where: curves, steps and seconds to the targets, and what a step costs."""
    rounds = step_times.rounds_of(loaded.rounds, used)
    costs = step_times.step_costs(used, rounds)
    times = targets.times_to_target(final, loaded.metrics, goals, costs)
    crossings = targets.common_crossings(final, loaded.metrics, goals)
    return {
        "targets": goals,
        "costs": costs,
        "times": times,
        "speedups": speedup.speedups(times, rounds, baselines, crossings),
        "convergence": convergence.convergence(final, loaded.metrics, costs),
        "target_curves": targets.target_curves(final, loaded.metrics, goals),
        "rank_changes": targets.rank_changes(final, loaded.metrics, goals),
    }


def _sweeps(used: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """What grids and searches show of hyperparameters."""
    cells = sensitivity.sweep_cells(used)
    responses = sensitivity.response_curves(cells)
    spaces = {row.optimizer: row.search_space for row in each(used.drop_duplicates("optimizer"))}
    return {
        "cells": selection.summarize_cells(used),
        "sweep_cells": cells,
        "responses": responses,
        "flat_widths": sensitivity.flat_widths(responses, cells),
        "edges": sensitivity.edge_flags(cells, spaces),
        "drift": epsilon.best_lr_drift(cells),
        "importances": importance.importances(cells, seed),
        "tuning": tuning.tuning_curves(used),
    }


def _check_targets(overrides: Sequence[dict[str, object]], used: pd.DataFrame, metrics: pd.DataFrame) -> None:
    for override in overrides:
        for kind, known in (("task", set(used["task"])), ("metric", set(metrics.columns) - {"run", "step"})):
            if override[kind] is not None and override[kind] not in known:
                names = ", ".join(sorted(known))
                raise ValueError(f"no {kind} {override[kind]!r} in these runs (there are: {names})")


def _in_order(found: Findings) -> Findings:
    """Rows in the order in which a reader meets the settings; what spans all tasks comes last."""
    order = [*found.settings["setting"], verdicts.OVERALL]
    position = {setting: index for index, setting in enumerate(order)}
    ordered: dict[str, Any] = {
        name: frame.sort_values("setting", key=lambda column: column.map(position), kind="stable", ignore_index=True)
        for name, frame in vars(found).items()
        if isinstance(frame, pd.DataFrame) and "setting" in frame and name not in ("runs", "used", "final", "times")
    }
    return replace(found, **ordered)


def _one_setting_per_task(used: pd.DataFrame) -> list[str]:
    """The settings that count over tasks: of each task the unscaled one with the most runs."""
    plain = used[used["loss_scale"] == 1.0]
    sizes = plain.groupby(["task", "setting"]).size().reset_index(name="num_runs")
    return list(sizes.sort_values(["task", "num_runs"], ascending=[True, False]).drop_duplicates("task")["setting"])
