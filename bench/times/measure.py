"""Timing a pool of optimizers side by side: whatever else the machine does then hits all of them alike."""

import math
import os
import random
import statistics
import uuid
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from bench.analysis.intervals import mean_interval
from bench.jobs.calibration import time_steps
from bench.jobs.plan import Plan
from bench.runs.environment import describe_environment
from bench.runs.rounds import Round, Session
from bench.training.train import make_learner

NUM_WARMUP_STEPS = 10  # of each optimizer, before the first round
TARGET_SECONDS = 0.3  # of one turn, so that a turn is long beside the clock's grain and short beside a change of load
MIN_STEPS, MAX_STEPS = 5, 500


def time_rounds(plans: Mapping[str, Plan], num_rounds: int) -> Iterator[Session]:
    """Time one optimizer after the other, round by round, each alone on one trial.

    Args:
        plans: by optimizer the plan of a single trial, all on the same task and device.
        num_rounds: how often each has its turn; the order is drawn anew in every round.

    Yields:
        The session so far, after every round.
    """
    learners = {}
    for name, plan in plans.items():
        config = plan.trials[0].config
        learners[name] = make_learner(plan.tasks.get(config.task, config.device), [config], is_pack=False)
    config = next(iter(plans.values())).trials[0].config
    device = torch.device(config.device)
    batch_size = config.task.options.get("batch_size")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    slowest = max(statistics.median(time_steps(learner, NUM_WARMUP_STEPS, device)) for learner in learners.values())
    num_steps = min(max(MIN_STEPS, round(TARGET_SECONDS / slowest)), MAX_STEPS)
    name, order = uuid.uuid4().hex[:12], random.Random(0)
    rounds: list[Round] = []
    for number in range(num_rounds):
        for optimizer in order.sample(list(learners), len(learners)):
            seconds = statistics.median(time_steps(learners[optimizer], num_steps, device))
            rounds.append(Round(round=number, optimizer=optimizer, step_seconds=seconds))
        yield Session(
            session=name,
            task=config.task.name,
            batch_size=None if batch_size is None else float(batch_size),
            precision=config.precision,
            device=config.device,
            num_steps=num_steps,
            load=load,
            environment=describe_environment(config.device),
            rounds=list(rounds),
        )


def cost_rows(session: Session, baseline: str) -> list[dict[str, str | float]]:
    """A row per optimizer: milliseconds of a step, and the ratio to the baseline's, paired by round.

    The ratio is a geometric mean over rounds, with Student's 95 % interval on logarithms.
    """
    logs: dict[str, list[float]] = {}
    for turn in session.rounds:
        logs.setdefault(turn.optimizer, []).append(math.log(turn.step_seconds))
    rows: list[dict[str, str | float]] = []
    for name in sorted(logs, key=lambda name: statistics.median(logs[name])):
        differences = np.array(logs[name]) - np.array(logs[baseline])
        mean, low, high = np.exp(mean_interval([differences])[:3])
        ratio = {f"times {baseline}": float(mean), "from": float(low), "to": float(high)}
        rows.append({"optimizer": name, "ms per step": 1000 * math.exp(statistics.median(logs[name])), **ratio})
    return rows
