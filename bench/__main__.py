"""`python -m bench`: composes the configuration with Hydra and runs the job."""

import logging
import os
import sys

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.cli.compose import find_conf_dir
from bench.cli.explain import check_choices, explain, failed_to_compose, help_text
from bench.errors import ConfigError, JobFailedError, StoreError, one_line


@hydra.main(version_base="1.3", config_path=str(find_conf_dir()), config_name="config")
def run(cfg: DictConfig) -> float:
    """Hydra's entry: everything below sees plain values."""
    from bench.jobs.job import run_job  # late: torch takes seconds, and Ctrl-C may come within them

    try:
        mapping = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        assert isinstance(mapping, dict)
        return run_job({str(key): value for key, value in mapping.items()})
    except (ConfigError, StoreError, OmegaConfBaseException) as error:  # exits here: Hydra would add a line of its own
        raise SystemExit(_tell(str(error), 2)) from error


def main() -> None:
    """The command line. Exit codes: 0 success, 1 a failed trial, 2 a mistake of the user, 128 + n signal n."""
    args = sys.argv[1:]
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # a user's own ./optimizers and ./tasks
    if "--help" in args or "-h" in args:
        print(help_text(args))
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come through to here
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        check_choices(args)
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
