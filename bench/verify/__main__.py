"""`python -m bench.verify PATH... [--replay N] [--seed SEED]`: whether stored runs are whole and come out again."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.errors import stoppable, tell_error


@stoppable
def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what is found; returns the exit code: 0, 1 after a fault or a difference, 2 after a mistake."""
    parser = argparse.ArgumentParser(prog="python -m bench.verify", description="Check stored runs; change nothing.")
    parser.add_argument("paths", nargs="+", type=Path, help="folders with runs, at any depth, e.g. results/")
    parser.add_argument(
        "--replay", type=int, default=0, metavar="N",
        help="train N finished trials again, drawn at random: this imports and runs what their configs name",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="decides which trials are drawn (default: 0)")
    options = parser.parse_args(arguments)
    # Only now: --help should not wait for torch.
    from bench.verify.verify import UsageError, verify

    try:
        return 0 if verify(options.paths, options.replay, options.seed) else 1
    except (UsageError, OSError) as error:
        return tell_error(str(error), 2)


if __name__ == "__main__":
    sys.exit(main())
