"""`python -m bench.times optimizer=adamw,muon task=mlp`: what a step costs, and by what factor, with an interval."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.cli.arguments import admit_own_files, check_spelling, check_words
from bench.cli.explain import check_choices, explain, is_mistake
from bench.cli.folders import own_dirs
from bench.errors import ConfigError, count_of, stoppable, tell_error

log = logging.getLogger(__name__)
NUM_ROUNDS = 20
ARGUMENTS = ("optimizer", "baseline", "task", "rounds")
USAGE = """\
usage: python -m bench.times optimizer=NAME,NAME,... [baseline=NAME] [task=NAME,...] [rounds=20] [KEY=VALUE ...]

Times a step of each optimizer in interleaved rounds, one trial at a time, on this machine, which should have nothing
else to do. The baseline is the first one unless you name it. The rounds are kept in results_dir/times, where the report
finds them: whatever it says about seconds rests on them.
"""


@stoppable
def main(args: Sequence[str]) -> int:
    """Run the command line and return its exit code: 0, or 2 after a mistake."""
    if not args or {"--help", "-h"} & set(args):
        print(USAGE)
        return 0 if args else 2
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        admit_own_files(Path.cwd())
        check_words(args)
        check_choices([arg for arg in args if not arg.startswith("optimizer=")])
        _measure(args)
    except Exception as error:
        if not is_mistake(error):
            raise
        return tell_error(explain(error, args), 2)
    return 0


def _measure(args: Sequence[str]) -> None:
    from bench.cli.compose import compose_with_optimizer, resolve  # late: torch takes seconds
    from bench.jobs.plan import make_plan
    from bench.jobs.tables import print_line, print_table
    from bench.runs.rounds import save_session
    from bench.times.measure import cost_rows, time_rounds

    given = {key: value for key, equals, value in (arg.partition("=") for arg in args) if equals and key[0] != "-"}
    check_spelling(given, ARGUMENTS)
    pool = [name for name in given.pop("optimizer", "").split(",") if name]
    baseline = given.pop("baseline", pool[0] if pool else "")
    if not pool:
        raise ConfigError("optimizer", None, "which optimizers are to be timed? optimizer=NAME,NAME")
    names = list(dict.fromkeys([baseline, *pool]))
    num_rounds = _parse_rounds(given.pop("rounds", str(NUM_ROUNDS)))
    tasks = given.pop("task", "mlp").split(",")
    overrides = ["tracker=none", "sweep=none", *(f"{key}={value}" for key, value in given.items())]
    console = Console()
    _warn_of_load()
    for task in tasks:
        mappings = {name: resolve(compose_with_optimizer(name, [f"task={task}", *overrides], own_dirs(args)))
                    for name in names}  # fmt: skip
        plans = {mapping["optimizer"]["name"]: make_plan(mapping) for mapping in mappings.values()}
        for session in time_rounds(plans, num_rounds):
            path = save_session(session, next(iter(plans.values())).session.results_dir)
        turns = f"turns of {count_of(session.num_steps, 'step')}"
        print_line(f"{task} on {session.environment.device_name}, {turns}", console)
        print_table(cost_rows(session, next(iter(plans))), console)
        print(f"rounds: {path}")


def _parse_rounds(text: str) -> int:
    if not text.isdecimal() or not 3 <= int(text) <= 10_000:
        raise ConfigError("rounds", text, "expected a whole number from 3 to 10,000")
    return int(text)


def _warn_of_load() -> None:
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5:
        log.warning("this machine is busy, its load %.1f: times are noisier, ratios hold", os.getloadavg()[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
