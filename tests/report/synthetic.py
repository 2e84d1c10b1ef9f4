"""Run folders as the harness writes them, from closed-form curves: studies whose answer is known beforehand."""

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.analysis.judged import LookAt, TaskVerdict, Verdict
from bench.judge.verdict import write_verdict

STEP_SECONDS = {"adam": 0.004, "adamw": 0.004, "madam": 0.0044, "adamuon": 0.0075, "muon": 0.007, "lion": 0.0036}
BEST_LR = {"lion": 3e-4, "adamuon": 3e-3, "muon": 1e-2}
TASKS = {
    "mlp": {"initial": 2.3, "floor": 0.12, "target": 0.3, "steps": 300, "noise": 0.006, "relevant": 0.1},
    "gpt_nano": {"initial": 4.6, "floor": 1.75, "target": 2.2, "steps": 400, "noise": 0.01, "relevant": 0.01},
    "cifar": {"initial": 2.35, "floor": 0.9, "target": 1.3, "steps": 300, "noise": 0.02, "relevant": 0.03},
}
GAIN = {"adam": 0.0, "adamw": 0.0, "madam": 0.0, "adamuon": 0.06, "muon": 0.05, "lion": -0.02}


def final_loss(task: str, optimizer: str, lr: float, eps: float | None, loss_scale: float) -> float:
    """A U in lr around each optimizer's best, a cliff in eps that moves with the loss scale; inf where it diverges."""
    facts = TASKS[task]
    best = BEST_LR.get(optimizer, 1e-3)
    cliff = 0.0
    if eps is not None:
        # A larger eps asks for a larger lr, and past the cliff nothing is learned.
        pressure = math.log10(eps / (1e-5 * loss_scale))
        best *= 10 ** max(0.0, 0.5 * (pressure + 1))
        cliff = 0.4 * max(0.0, pressure) ** 1.5
    distance = math.log10(lr / best)
    if distance > 1.6:
        return math.inf
    loss = facts["floor"] * (1 + 0.18 * distance**2 + cliff - GAIN.get(optimizer, 0.0))
    return float(min(loss, facts["initial"]))


def curve(task: str, final: float, rng: np.random.Generator, num_rows: int, rate: float) -> np.ndarray:
    """Validation loss at `num_rows` evaluations, falling from the task's initial loss to `final`."""
    start = TASKS[task]["initial"]
    progress = np.linspace(0, 1, num_rows)
    fall = (np.exp(-rate * progress) - math.exp(-rate)) / (1 - math.exp(-rate))
    values = final + (start - final) * fall
    values[1:-1] *= 1 + 0.01 * rng.standard_normal(max(num_rows - 2, 0))
    values[0] = start
    return values


def write_run(
    root: Path,
    *,
    task: str = "mlp",
    optimizer: str = "adamw",
    lr: float = 1e-3,
    eps: float | None = 1e-8,
    seed: int = 0,
    loss_scale: float = 1.0,
    sweep: str | None = None,
    replicate: int = 0,
    stage: str = "tuning",
    shared: bool = False,
    status: str = "completed",
    num_rows: int = 21,
    diagnostics: bool = False,
    final: float | None = None,
    config: Mapping[str, Any] = {},
    optimizer_config: Mapping[str, Any] = {},
    task_config: Mapping[str, Any] = {},
    environment: Mapping[str, Any] = {},
    record: Mapping[str, Any] = {},
) -> Path:
    """Writes one run folder below `root` and returns it; the last arguments overwrite parts of `run.json`."""
    facts = TASKS.get(task, TASKS["mlp"])
    kind = task if task in TASKS else "mlp"
    known = final if final is not None else final_loss(kind, optimizer, lr, eps, loss_scale)
    own = {
        "lr": lr,
        "weight_decay": 0.01,
        "betas": [0.9, 0.999],
        **({} if eps is None else {"eps": eps}),
        **optimizer_config,
    }
    # The same stream for every loss scale of a rule without eps: its losses repeat bit by bit.
    stream = hashlib.sha256(
        repr((task, optimizer, lr, eps, seed, loss_scale if eps is not None else 1.0)).encode()
    ).digest()
    rng = np.random.default_rng(list(stream[:8]))
    shared_noise = np.random.default_rng([seed, len(task)]).standard_normal()
    if not math.isfinite(known):
        status, known = "diverged", facts["initial"]
    known += facts["noise"] * (0.8 * shared_noise + 0.6 * rng.standard_normal())
    document = _document(locals(), facts, own, known)
    document.update(record)
    folder = root / kind / "any" / document["run_id"]
    folder.mkdir(parents=True, exist_ok=True)
    content = _metrics(kind, document, known, rng, num_rows, diagnostics, eps, loss_scale)
    (folder / "metrics.parquet").write_bytes(content)
    document["files"] = {"metrics.parquet": hashlib.sha256(content).hexdigest()}
    (folder / "run.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def _document(given: dict[str, Any], facts: dict[str, Any], own: dict[str, Any], final: float) -> dict[str, Any]:
    task, optimizer, status = given["task"], given["optimizer"], given["status"]
    step_seconds = STEP_SECONDS.get(optimizer, 0.005)
    cell = {"optimizer.lr": own["lr"], "seed": given["seed"]}
    identity = [task, optimizer, own, given["seed"], given["loss_scale"], given["sweep"], dict(given["config"]),
                dict(given["task_config"])]  # fmt: skip
    diverged = status == "diverged"
    return {
        "schema_version": 1,
        "run_id": hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16],
        "status": status,
        "seed": given["seed"],
        "config": {
            "seed": given["seed"], "device": "cpu", "precision": "float32", "clip_norm": None, "diverge_factor": 10.0,
            "timeout": None,
            "optimizer": {
                "name": optimizer, "_target_": f"optimizers.{optimizer}.{optimizer.title()}",
                "paper": "arXiv 1412.6980",
                "eps_convention": "added to sqrt(v_hat), after bias correction" if "eps" in own else "no eps",
                "search_space": {"lr": {"low": 1e-5, "high": 1e-1, "scale": "log"}}, **own,
            },
            "task": {
                "name": task, "_target_": f"tasks.{task}.Task", "steps": facts["steps"], "batch_size": 32,
                "eval_every": facts["steps"] // 20, "loss_scale": given["loss_scale"], "width": 64,
                "target": {"metric": "val_loss", "value": facts["target"], "mode": "min"},
                "relevant": facts["relevant"], **given["task_config"],
            },
            "schedule": {"name": "cosine", "warmup": 0.1},
            **given["config"],
        },
        "fingerprint": {"data": hashlib.sha256(task.encode()).hexdigest(), "code": "c" * 64},
        "sweep": {"name": given["sweep"], "cell": cell, "replicate": given["replicate"], "stage": given["stage"]}
                 if given["sweep"] else None,
        "summary": {
            "num_steps": facts["steps"], "initial_val_loss": facts["initial"],
            "final_val_loss": None if diverged else final,
            "final_test_loss": None if diverged else 1.02 * final, "best_val_loss": None if diverged else final,
            "best_step": facts["steps"],
            "steps_to_target": facts["steps"] / 2 if final <= facts["target"] else None,
            "seconds_to_target": facts["steps"] / 2 * step_seconds if final <= facts["target"] else None,
            "seconds_to_target_derived": given["shared"], "train_seconds": facts["steps"] * step_seconds,
            "elapsed_seconds": facts["steps"] * step_seconds * 1.2, "step_seconds": step_seconds,
            "optimizer_share": 0.3, "alone_step_seconds": step_seconds if given["shared"] else None,
            "first_step_seconds": 0.05, "num_parameters": 8970, "state_bytes": 71760, "samples_per_step": 32,
            "message": "validation loss exceeded 10 times the initial one" if diverged else None,
        },
        "pack": {"size": 8 if given["shared"] else 1, "shared_timing": given["shared"]},
        "environment": {
            "python": "3.11.7", "torch": "2.13.0+cpu", "platform": "Linux-6.18.44-x86_64-with-glibc2.36",
            "device": "cpu", "device_name": "AMD EPYC x 2", "num_threads": 2, "git": "0123abc45678",
            "bench_version": "0.2.0.dev0", "time": "2026-01-01T00:00:00+00:00", "cuda": None, **given["environment"],
        },
    }  # fmt: skip


def _metrics(
    task: str, document: dict[str, Any], final: float, rng: np.random.Generator, num_rows: int, diagnostics: bool,
    eps: float | None, loss_scale: float,
) -> bytes:  # fmt: skip
    optimizer, summary = document["config"]["optimizer"], document["summary"]
    steps = np.linspace(0, summary["num_steps"], num_rows).astype(np.int64)
    rate = 6 * (1 + 3 * GAIN.get(optimizer["name"], 0.0))
    values = curve(task, final, rng, num_rows, rate)
    if document["status"] == "diverged":
        steps, values = steps[:4], np.array([*values[:1], values[0] * 1.5, values[0] * 6, math.inf])
    n, cost = len(steps), summary["step_seconds"]
    jitter = cost * (1 + 0.02 * rng.standard_normal(n))
    jitter[0] = math.nan
    full = np.full(n, math.nan)
    full[-1] = values[-1]
    shares = {"data": 0.05, "forward": 0.25, "backward": 0.4, "optimizer": 0.3}
    columns = {
        "step": steps, "train_loss": np.where(steps == 0, math.nan, values * 0.97), "val_loss": values,
        "val_accuracy": 1 - values / (values[0] * 1.1), "lr": np.full(n, optimizer.get("lr", 1e-3)),
        "train_seconds": steps * cost, "elapsed_seconds": steps * cost * 1.2, "step_seconds": jitter,
        **{f"{part}_seconds": jitter * share for part, share in shares.items()}, "full_val_loss": full,
    }  # fmt: skip
    if diagnostics:
        for label, size in (("matrix", 1e-4), ("embedding", 1e-6), ("vector", 1e-3)):
            ratio = math.log10((eps or 1e-30) / (size * loss_scale)) + 0.5 * steps / max(steps[-1], 1)
            columns[f"diag/{label}/frac_below_eps"] = 1 / (1 + np.exp(-3 * ratio))
            columns[f"diag/{label}/frac_below_10eps"] = 1 / (1 + np.exp(-3 * (ratio + 1)))
            columns[f"diag/{label}/update_rms"] = 1 / (1 + 10**ratio) * (0.2 + 0 * steps)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def write_epsilon_study(root: Path, tasks: Sequence[str] = ("mlp", "gpt_nano"), seeds: int = 3) -> None:
    """`madam_vs_adam` in small: eps x lr x seeds for Adam, lr x seeds for MAdam, at three loss scales."""
    for task in tasks:
        for scale in (1.0, 2.0**-10, 2.0**-20):
            for seed in range(seeds):
                for lr in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2):
                    common = {"task": task, "lr": lr, "seed": seed, "loss_scale": scale, "sweep": "madam_vs_adam",
                              "shared": True}  # fmt: skip
                    write_run(root, optimizer="madam", eps=None, **common)
                    for exponent in range(-16, -1, 2):
                        write_run(root, optimizer="adam", eps=10.0**exponent, diagnostics=lr == 1e-3, **common)


def write_zoo(
    root: Path,
    optimizers: Sequence[str] = tuple(STEP_SECONDS),
    tasks: Sequence[str] = tuple(TASKS),
    trials: int = 16,
    fresh: int = 5,
    searches: int = 1,
) -> None:
    """`zoo` in small: random searches per optimizer and task, then the best cell of each on fresh seeds, alone."""
    for task in tasks:
        for optimizer in optimizers:
            for search in range(searches):
                _write_search(root, task, optimizer, search, trials, fresh)


def _write_search(root: Path, task: str, optimizer: str, search: int, trials: int, fresh: int) -> None:
    eps = None if optimizer in ("madam", "lion", "muon") else 1e-8
    rng = np.random.default_rng(len(optimizer) + len(task) + 100 * search)
    draws = [(10 ** rng.uniform(-4.5, -0.5), 10 ** rng.uniform(-3, 0)) for _ in range(trials)]
    kind = task if task in TASKS else "mlp"
    common: dict[str, Any] = {"task": task, "optimizer": optimizer, "eps": eps, "replicate": search}
    for lr, decay in draws:
        write_run(root, lr=lr, sweep="search", shared=True, seed=1000 * search,
                  optimizer_config={"weight_decay": decay}, **common)  # fmt: skip
    lr, decay = min(draws, key=lambda draw: final_loss(kind, optimizer, draw[0], eps, 1.0))
    for seed in range(fresh):
        write_run(root, lr=lr, sweep="fresh_seeds", stage="fresh", seed=100 + 1000 * search + seed,
                  optimizer_config={"weight_decay": decay}, **common)  # fmt: skip


def answer(candidate: str, number: int, **words: Any) -> Verdict:
    """The judge's answer on a candidate against adamw, a word for each task: loss × 1.10, 0.90 to 1.34, 5 searches."""
    look = LookAt(searches=5, level=0.001, difference=0.0953, low=-0.105, high=0.293, verdict="unresolved", failed=1,
                  baseline_failed=0, failure_p_value=1.0, failure_verdict="")  # fmt: skip
    tasks = [
        TaskVerdict(task=task, verdict=word, failure_verdict="", ratio=1.1, ratio_low=0.9, ratio_high=1.34, margin=0.1,
                    sd_searches=0.1, sd_seeds=0.1, baseline_sd_searches=0.1, baseline_sd_seeds=0.1,
                    searches_needed=None, looks=[look.model_copy(update={"verdict": word})])
        for task, word in words.items()
    ]  # fmt: skip
    return Verdict(candidate=candidate, baseline="adamw", candidate_number=number, alpha=0.025, trials_per_search=8,
                   fresh_seeds=[100], planned_looks=[3, 5], notes=[], tasks=tasks)  # fmt: skip


def write_answer(results: Path, candidate: str, number: int = 1, **words: Any) -> None:
    """`answer` as the judge leaves it."""
    results.mkdir(parents=True, exist_ok=True)
    write_verdict(answer(candidate, number, **words), results, f"{candidate}-{number}")
