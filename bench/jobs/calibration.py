"""Short measurements before training, cached on disk: what a step costs alone, and how many trials to pack."""

import hashlib
import json
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from bench.config.schema import TrialConfig
from bench.files import read_json
from bench.jobs.packing import cost_key
from bench.jobs.threads import count_flops
from bench.runs.environment import describe_environment
from bench.runs.trial import Trial
from bench.training.clock import StepClock
from bench.training.components import Task
from bench.training.learner import Learner
from bench.training.memory import is_out_of_memory
from bench.training.train import make_learner

log = logging.getLogger(__name__)
T = TypeVar("T")
NUM_WARMUP_STEPS = 3
NUM_ALONE_STEPS = 40
NUM_PACK_STEPS = 4
NUM_EVALUATIONS = 2  # of which the second is warm
SMALLEST_PACK, LARGEST_CPU_PACK, LARGEST_GPU_PACK = 8, 256, 4096
GOOD_ENOUGH = 1.03  # a larger pack must be faster by this factor, for it takes more memory and ends later


@dataclass(frozen=True)
class StepCost:
    """What a step costs alone: median and interquartile range in seconds, over `num_steps` steps."""

    seconds: float
    spread: float
    num_steps: int


class Calibration:
    """Measurements of one results folder, each taken once per cost key, machine and code.

    Args:
        folder: where they are kept as JSON, one file each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def step_cost(self, task: Task, trial: Trial) -> StepCost:
        """What a step of this trial costs when it trains alone; NaN where that does not fit into memory."""
        path = self._path("alone", trial)
        known = _read(path, {"seconds": float, "spread": float, "num_steps": int})
        if known is None:
            seconds = _measure(task, [trial.config], lambda learner: _step_seconds(learner, NUM_ALONE_STEPS, trial))
            if seconds is None:
                return StepCost(math.nan, math.nan, 0)
            quartiles = statistics.quantiles(seconds, n=4)
            known = asdict(StepCost(statistics.median(seconds), quartiles[2] - quartiles[0], len(seconds)))
            _write(path, known)
        return StepCost(**known)

    def gradient_flops(self, task: Task, trial: Trial) -> float:
        """What `count_flops` says of this trial; inf where its model does not fit into memory."""
        path = self._path("flops", trial)
        known = _read(path, {"flops": float})
        if known is None:
            flops = _unless_out_of_memory(trial.config, lambda: count_flops(task, trial.config))
            if flops is None:
                return math.inf
            known = {"flops": flops}
            _write(path, known)
        return float(known["flops"])

    def pack_size(self, task: Task, trials: Sequence[Trial]) -> tuple[int, float]:
        """The pack size with the most trial-steps per second, and the seconds that one of its steps takes.

        With each step goes its share of an evaluation. The size is 1 where no pack is faster than one by one.
        """
        path = self._path(f"pack-{_log2(len(trials))}", trials[0])
        known = _read(path, {"size": int, "seconds": float})
        if known is None:
            size, seconds = self._measure_pack_size(task, trials)
            known = {"size": size, "seconds": seconds}
            _write(path, known)
        return known["size"], known["seconds"]

    def _measure_pack_size(self, task: Task, trials: Sequence[Trial]) -> tuple[int, float]:
        """Double the pack until a larger one no longer pays or fits, or there are no more trials."""
        best_size, best_seconds = 1, _fastest(task, trials[:1])
        if math.isnan(best_seconds):
            return best_size, best_seconds
        largest = LARGEST_GPU_PACK if trials[0].config.device.startswith("cuda") else LARGEST_CPU_PACK
        for size in _doublings(min(SMALLEST_PACK, len(trials)), min(largest, len(trials))):
            seconds = _fastest(task, trials[:size])
            is_better = size / seconds > GOOD_ENOUGH * best_size / best_seconds
            if is_better:
                best_size, best_seconds = size, seconds
            elif math.isnan(seconds) or size >= 4 * best_size:
                break
        return best_size, best_seconds

    def _path(self, kind: str, trial: Trial) -> Path:
        machine = describe_environment(trial.config.device).model_dump(exclude={"time", "git", "tf32"})
        text = repr((kind, cost_key(trial.config), trial.fingerprint, sorted(machine.items(), key=str)))
        return self.folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _doublings(first: int, last: int) -> Iterator[int]:
    """`first`, twice as many, and so on, and `last` at the end."""
    while first < last:
        yield first
        first *= 2
    yield last


def _fastest(task: Task, trials: Sequence[Trial]) -> float:
    """Least seconds of a step of these trials together and its share of an evaluation; NaN where memory is short.

    They are not compiled: that would take longer than a wrong choice costs.
    """

    def measure(learner: Learner) -> float:
        step = min(_step_seconds(learner, NUM_PACK_STEPS, trials[0]))
        device, seconds = torch.device(trials[0].config.device), []
        for _ in range(NUM_EVALUATIONS):
            start = time.perf_counter()
            learner.evaluate("val", full=False)
            _synchronize(device)
            seconds.append(time.perf_counter() - start)
        return step + min(seconds) / trials[0].config.task.eval_every

    plain = [trial.config.model_copy(update={"compile": "none"}) for trial in trials]
    seconds = _measure(task, plain, measure)
    return math.nan if seconds is None else seconds


def _measure(task: Task, configs: Sequence[TrialConfig], measure: Callable[[Learner], T]) -> T | None:
    """What `measure` says of the learner of these trials; None where memory does not suffice."""
    return _unless_out_of_memory(configs[0], lambda: measure(make_learner(task, configs, is_pack=len(configs) > 1)))


def _unless_out_of_memory(config: TrialConfig, measure: Callable[[], T]) -> T | None:
    try:
        return measure()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    finally:
        if torch.device(config.device).type == "cuda":
            torch.cuda.empty_cache()  # for the workers, which have caches of their own


def _step_seconds(learner: Learner, num_steps: int, trial: Trial) -> list[float]:
    """Seconds of `num_steps` steps after a few to warm up."""
    return time_steps(learner, NUM_WARMUP_STEPS + num_steps, torch.device(trial.config.device))[NUM_WARMUP_STEPS:]


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_steps(learner: Learner, num_steps: int, device: torch.device) -> list[float]:
    """Seconds of each of a learner's next steps, synchronised with its device."""
    seconds = []
    clock = StepClock(device)
    clock.start()
    for _ in range(num_steps):
        start = time.perf_counter()
        learner.step(1.0, clock)
        _synchronize(device)
        seconds.append(time.perf_counter() - start)
    return seconds


def _log2(number: int) -> int:
    return number.bit_length() - 1


def _read(path: Path, types: Mapping[str, type]) -> Mapping[str, Any] | None:
    """A measurement kept earlier, if it is still one: exactly these figures, each finite and above zero."""
    try:
        known = read_json(path)
    except (OSError, ValueError):
        return None
    if not isinstance(known, dict) or {name: type(value) for name, value in known.items()} != types:
        return None
    return known if all(0 < value < math.inf for value in known.values()) else None


def _write(path: Path, content: Mapping[str, float]) -> None:
    """Keep a measurement; a folder that cannot be written only means measuring again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    except OSError as error:
        log.warning("a measurement could not be kept in %s: %s", path.parent, error)
