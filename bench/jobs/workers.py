"""Packs one after the other in this process, or side by side in worker processes or on a cluster."""

from collections import deque
from collections.abc import Iterator, Sequence

from bench.jobs.cluster import run_on_cluster
from bench.jobs.packing import Pack
from bench.jobs.plan import Plan
from bench.jobs.processes import run_in_processes
from bench.jobs.progress import Display
from bench.jobs.runner import PackRunner
from bench.runs.schema import Run
from bench.training.interrupt import StopSignal


def run_packs(packs: Sequence[Pack], plan: Plan, workers: int, display: Display, stop: StopSignal) -> Iterator[Run]:
    """Train packs and yield every stored run, as soon as its pack is done."""
    if isinstance(plan.session.workers, str):
        results = run_on_cluster(packs, plan.session, plan.session.workers, stop)
    elif workers > 1:
        results = run_in_processes(packs, plan.session, workers, display, stop)
    else:
        results = _run_here(packs, plan, display, stop)
    for runs in results:
        for run in runs:
            if run.run_id not in plan.finished:
                display.trial_ended(run)
            yield run


def _run_here(packs: Sequence[Pack], plan: Plan, display: Display, stop: StopSignal) -> Iterator[list[Run]]:
    runner = PackRunner(plan.session, [display], stop, plan.tasks)
    left = deque(packs)
    while left and stop.number is None:
        runs, rest = runner.run(left.popleft())
        display.glimpsed(0, None)
        left.extend([rest] if rest else [])
        yield runs
