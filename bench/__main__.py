"""`python -m bench` and `fairstep`: compose the configuration with Hydra and run the job, or run another command."""

import os
import sys

import bench
from bench.cli.help import COMMANDS, help_text


def main() -> None:
    """The command line. Exit codes: 0 success, 1 a failed trial, 2 a mistake of the user, 128 + n signal n."""
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    if code:
        sys.exit(code)


def _run(args: list[str]) -> int:
    if "--version" in args:
        print(f"fairstep {bench.__version__}")
        return 0
    if {"--help", "-h"} & set(args) and args[0] not in COMMANDS:
        print(help_text(args))
        return 0
    from bench.cli.run import run_command  # only now: --help should not wait for Hydra

    return run_command(args)


if __name__ == "__main__":
    main()
