"""`python -m bench` and `fairstep`: compose the configuration with Hydra and run the job, or run another command."""

import importlib
import logging
import os
import sys
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import bench
from bench.cli.arguments import admit_own_files, options_first
from bench.cli.compose import find_conf_dir
from bench.cli.explain import check_choices, explain, failed_to_compose
from bench.cli.help import help_text
from bench.errors import ConfigError, JobFailedError, StoreError, one_line

COMMANDS = ("report", "check", "verify")  # each is `python -m bench.COMMAND` too


@hydra.main(version_base="1.3", config_path=str(find_conf_dir()), config_name="config")
def run(cfg: DictConfig) -> float:
    """Hydra's entry: everything below sees plain values."""
    from bench.jobs.job import run_job  # late: torch takes seconds, and Ctrl-C may come within them

    try:
        mapping = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        assert isinstance(mapping, dict)
        return run_job({str(key): value for key, value in mapping.items()})
    except (ConfigError, StoreError, OmegaConfBaseException) as error:  # exits here: Hydra would add a line of its own
        raise SystemExit(_tell(explain(error, sys.argv[1:]), 2)) from error


def main() -> None:
    """The command line. Exit codes: 0 success, 1 a failed trial, 2 a mistake of the user, 128 + n signal n."""
    try:
        _main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _main(args: list[str]) -> None:
    if "--version" in args:
        print(f"fairstep {bench.__version__}")
        return
    if ("--help" in args or "-h" in args) and args[0] not in COMMANDS:
        print(help_text(args))
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come through to here
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        admit_own_files(Path.cwd())
        if args and args[0] in COMMANDS:
            sys.exit(importlib.import_module(f"bench.{args[0]}.__main__").main(args[1:]))
        check_choices(args)
        sys.argv[1:] = options_first(args)
        run()
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        sys.exit(_tell(explain(error, args), 2))
    except JobFailedError as error:
        sys.exit(_tell(str(error), 1))
    except KeyboardInterrupt:
        sys.exit(_tell("stopped at once", 130))
    except Exception as error:
        if failed_to_compose(error):
            sys.exit(_tell(explain(error, args), 2))
        if type(error).__module__.partition(".")[0] != "submitit":
            raise
        line = str(error).rstrip().splitlines()[-1]  # what the job itself has told on its stderr
        sys.exit(_tell(line.removeprefix("error: "), 2 if line.startswith("error: ") else 1))


def _tell(text: str, code: int) -> int:
    print(f"error: {one_line(text)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
