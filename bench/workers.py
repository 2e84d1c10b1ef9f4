"""Packs one after the other in this process, or side by side in worker processes."""

import logging
from collections.abc import Iterator, Sequence

import torch
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from bench.config import SessionConfig
from bench.display import Display
from bench.execution import PackRunner, Run
from bench.interrupt import StopSignal
from bench.loading import load_task
from bench.packing import Pack
from bench.planning import Plan
from bench.store import Store

log = logging.getLogger(__name__)


def run_packs(packs: Sequence[Pack], plan: Plan, workers: int, display: Display, stop: StopSignal) -> Iterator[Run]:
    """Train packs and yield every stored run, as soon as its pack is done."""
    results = _run_here(packs, plan, display, stop) if workers <= 1 else _run_in_workers(packs, plan, workers, stop)
    for runs in results:
        for run in runs:
            display.trial_ended(run)
            yield run
        if stop.number is not None:
            return


def _run_here(packs: Sequence[Pack], plan: Plan, display: Display, stop: StopSignal) -> Iterator[list[Run]]:
    runner = PackRunner(Store(plan.session.results_dir), plan.session.tracker, [display], stop)
    for pack in packs:
        config = pack.trials[0].config
        yield runner.run(pack, plan.tasks.get(config.task, config.device))


def _run_in_workers(packs: Sequence[Pack], plan: Plan, workers: int, stop: StopSignal) -> Iterator[list[Run]]:
    """Spread packs over processes. A worker that dies costs the packs in flight, which are tried once more."""
    left = {id(pack): pack for pack in packs}
    for attempt in (1, 2):
        parallel = Parallel(n_jobs=workers, backend="loky", return_as="generator_unordered", batch_size=1)
        threads = max(1, torch.get_num_threads() // workers)
        tasks = [
            delayed(_work)(key, pack, plan.session, threads, order) for order, (key, pack) in enumerate(left.items())
        ]
        try:
            for key, runs in parallel(tasks):
                left = {other: pack for other, pack in left.items() if other != key}
                yield runs
            return
        except TerminatedWorkerError:
            if attempt == 2:
                raise
            log.warning("a worker died: training its packs once more")


def _work(key: int, pack: Pack, session: SessionConfig, num_threads: int, order: int) -> tuple[int, list[Run]]:
    torch.set_num_threads(num_threads)
    config = pack.trials[0].config
    if config.device == "cuda":
        torch.cuda.set_device(order % torch.cuda.device_count())
    with StopSignal() as stop:
        runner = PackRunner(Store(session.results_dir), session.tracker, [], stop)
        return key, runner.run(pack, load_task(config.task, config.device))
