"""A command line from its words to its exit code, with every mistake told in one line."""

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from bench.cli.arguments import admit_own_files, options_first
from bench.cli.compose import admit_optional, resolve
from bench.cli.explain import check_choices, explain, is_mistake
from bench.cli.help import COMMANDS
from bench.config.folders import find_conf_dir
from bench.errors import ConfigError, JobFailedError, StoreError, stoppable, tell_error


@hydra.main(version_base="1.3", config_path=str(find_conf_dir()), config_name="config")
def run_composed(config: DictConfig) -> float:
    """Hydra's entry: everything below sees plain values."""
    from bench.jobs.job import run_job  # late: torch takes seconds, and Ctrl-C may come within them

    try:
        return run_job(resolve(config))
    except (ConfigError, StoreError, OmegaConfBaseException) as error:  # exits here: Hydra would add a line of its own
        raise SystemExit(tell_error(explain(error, sys.argv[1:], takes_several=True), 2)) from error


@stoppable
def run_command(args: Sequence[str]) -> int:
    """Run a command line and return its exit code, which a training may also raise as SystemExit."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come through to here
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        admit_own_files(Path.cwd())
        if args and args[0] in COMMANDS:
            code: int = importlib.import_module(f"bench.{args[0]}.__main__").main(args[1:])
            return code
        check_choices(args)
        sys.argv[1:] = admit_optional(options_first(args))
        run_composed()
    except JobFailedError as error:
        return tell_error(str(error), 1)
    except Exception as error:
        if is_mistake(error):
            return tell_error(explain(error, args, takes_several=True), 2)
        if type(error).__module__.partition(".")[0] != "submitit":
            raise
        line = str(error).rstrip().splitlines()[-1]  # what the job itself has told on its stderr
        return tell_error(line.removeprefix("error: "), 2 if line.startswith("error: ") else 1)
    return 0
