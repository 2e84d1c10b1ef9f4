"""`python -m bench.check optimizer=NAME`: the conformance checks from the command line."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from bench.check.subject import Subject
from bench.check.suite import FAIL, make_table, run_checks
from bench.cli.arguments import admit_own_files
from bench.cli.compose import compose
from bench.cli.explain import check_choices, explain, failed_to_compose
from bench.cli.folders import own_dirs
from bench.config.plain import check_plain
from bench.config.schema import MAX_TRIAL_VALUES, OptimizerConfig, parse_optimizer
from bench.errors import ConfigError, one_line
from bench.training.routing import check_optimizer, find_optimizer_class

USAGE = """\
usage: python -m bench.check optimizer=NAME [optimizer.KEY=VALUE ...] [--config-dir DIR]

Puts an optimizer through the conformance checks: NAME is a yaml in conf/optimizer/, or in DIR/optimizer/ for your own.
Exit code 0: nothing failed; 1: a check failed; 2: a mistake on this line.
"""


def compose_optimizer(overrides: Sequence[str], folders: Sequence[Path]) -> OptimizerConfig:
    """The optimizer that the command line asks for. Raises ConfigError, HydraException or OmegaConfBaseException."""
    mapping = OmegaConf.to_container(compose(overrides, folders).optimizer, resolve=True)
    check_plain({"optimizer": mapping}, MAX_TRIAL_VALUES)
    return parse_optimizer(mapping)


def make_subject(config: OptimizerConfig) -> Subject:
    """The factory of a configured optimizer. Raises ConfigError for what its class refuses."""
    check_optimizer(config)
    optimizer_class = find_optimizer_class(config)
    return Subject(lambda params: optimizer_class(params, **config.hyperparameters), config.needs_closure)


def main(args: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    if not args or {"--help", "-h"} & set(args):
        print(USAGE)
        return 0 if args else 2
    try:
        admit_own_files(Path.cwd())
        overrides = [arg for arg in args if arg.partition("=")[0].split(".")[0].lstrip("+~") == "optimizer"]
        check_choices(args)
        config = compose_optimizer(overrides, own_dirs(args))
        subject = make_subject(config)
    except Exception as error:
        if not (isinstance(error, ConfigError | HydraException | OmegaConfBaseException) or failed_to_compose(error)):
            raise
        print(f"error: {one_line(explain(error, args))}", file=sys.stderr)
        return 2
    findings = run_checks(subject)
    Console().print(make_table(config.name, findings), highlight=False)
    return 1 if any(finding.status == FAIL for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
