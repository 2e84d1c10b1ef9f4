"""Packs one after the other in this process, or side by side in worker processes."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch
from joblib.externals.loky import get_reusable_executor, wait

from bench.config.schema import SessionConfig
from bench.errors import JobFailedError
from bench.jobs.packing import Pack
from bench.jobs.plan import Plan
from bench.jobs.progress import Display
from bench.jobs.runner import PackRunner
from bench.runs.schema import Run
from bench.training.components import load_task
from bench.training.interrupt import StopSignal

log = logging.getLogger(__name__)


def run_packs(packs: Sequence[Pack], plan: Plan, workers: int, display: Display, stop: StopSignal) -> Iterator[Run]:
    """Train packs and yield every stored run, as soon as its pack is done."""
    results = _run_here(packs, plan, display, stop) if workers <= 1 else _run_in_workers(packs, plan, workers, stop)
    for runs in results:
        for run in runs:
            if run.run_id not in plan.finished:
                display.trial_ended(run)
            yield run


def _run_here(packs: Sequence[Pack], plan: Plan, display: Display, stop: StopSignal) -> Iterator[list[Run]]:
    runner = PackRunner(plan.session, [display], stop)
    left = deque(packs)
    while left and stop.number is None:
        pack = left.popleft()
        config = pack.trials[0].config
        runs, rest = runner.run(pack, plan.tasks.get(config.task, config.device))
        left.extend([rest] if rest else [])
        yield runs


def _run_in_workers(packs: Sequence[Pack], plan: Plan, workers: int, stop: StopSignal) -> Iterator[list[Run]]:
    """Spread packs over processes. A worker that dies costs the packs in flight, which are tried once more."""
    left = dict(enumerate(packs))
    for attempt in (1, 2):
        try:
            yield from _run_once_in_workers(left, plan.session, workers, stop)
            return
        except BrokenProcessPool:
            if stop.number is not None:
                return
            if attempt == 2:
                raise JobFailedError(f"a worker died twice: {len(left)} packs are not trained") from None
            log.warning("a worker died: training its packs once more")


def _run_once_in_workers(
    left: dict[int, Pack], session: SessionConfig, workers: int, stop: StopSignal
) -> Iterator[list[Run]]:
    """Train the packs that are `left`, by number, and take out those that are done. A stop lets those in flight end."""
    executor = get_reusable_executor(max_workers=workers)
    threads = max(1, torch.get_num_threads() // workers)
    waiting = list(left)
    running: dict[Any, int] = {}
    while running or (waiting and stop.number is None):
        while waiting and len(running) < workers and stop.number is None:
            number = waiting.pop(0)
            running[executor.submit(_work, left[number], session, threads, number)] = number
        stop.followers = executor._processes
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            runs, rest = future.result()
            number = running.pop(future)
            if rest is None:
                del left[number]
            else:
                left[number] = rest
                waiting.append(number)
            yield runs


def _work(pack: Pack, session: SessionConfig, num_threads: int, number: int) -> tuple[list[Run], Pack | None]:
    torch.set_num_threads(num_threads)
    config = pack.trials[0].config
    if config.device == "cuda":
        torch.cuda.set_device(number % torch.cuda.device_count())
    with StopSignal() as stop:
        return PackRunner(session, [], stop).run(pack, load_task(config.task, config.device))
