"""`python -m bench.report [LABEL=]PATH... [--out DIR] [--baseline NAME] [--target "mlp:val_loss<=0.3"] ...`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.errors import stoppable, tell_error


@stoppable
def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the report; returns the exit code: 0, or 2 after one line on stderr."""
    options = _parser().parse_args(arguments)
    # Only now: --help should not wait for pandas and matplotlib.
    from bench.report.write import write_report
    from bench.runs.folders import ResultsFolder

    try:
        labelled = _labelled(options.paths)
    except ValueError as error:
        return tell_error(str(error), 2)
    home = ResultsFolder(next(iter(labelled))).report if len(labelled) == 1 else Path("report")
    try:
        page = write_report(
            labelled, options.out or home, baseline=options.baseline, targets=options.target,
            optimizers=options.optimizer, tasks=options.task, where=options.where, tell=print,
        )  # fmt: skip
    except ValueError as error:
        return tell_error(str(error), 2)
    except OSError as error:  # of what is read, a fault is told on the page
        return tell_error(f"--out {options.out or home}: cannot be written: {error.strerror or error}", 2)
    print(f"report: {page}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="Turn run folders into one report.")
    parser.add_argument(
        "paths", nargs="+", metavar="[LABEL=]PATH",
        help="folders with runs, at any depth, e.g. results/; with labels, mine=DIR theirs=DIR, their runs stay apart",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder for the report (default: PATH/report; of several, report)")
    parser.add_argument("--baseline", help="optimizer to compare with (default: adamw, else adam, else sgd)")
    parser.add_argument(
        "--target", action="append", default=[], metavar="[TASK:]METRIC<=VALUE",
        help="another target than the runs' own, e.g. --target 'mlp:val_accuracy>=0.95'; may be given several times",
    )  # fmt: skip
    for name in ("--optimizer", "--task"):
        parser.add_argument(
            name, action="append", default=[], metavar="NAME[,NAME]...",
            help="only these; may be given several times",
        )  # fmt: skip
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY<=VALUE",
        help="only runs for which this holds, by any key of their configuration, e.g. --where 'optimizer.lr<=1e-2' "
        "or --where 'task.steps=200'; may be given several times",
    )  # fmt: skip
    return parser


def _labelled(paths: Sequence[str]) -> dict[Path, str]:
    """Folders with their labels; a folder that exists under the whole text has none.

    Raises:
        ValueError: two folders have one label, or a folder lies in one of another label: nothing would tell them apart.
    """
    labels: dict[Path, str] = {}
    for text in paths:
        label, separator, path = text.partition("=")
        is_labelled = separator and label.isidentifier() and not Path(text).exists()
        label, folder = (label, Path(path)) if is_labelled else ("", Path(text))
        for other, taken in labels.items():
            if label and label == taken:
                raise ValueError(f"{text}: the label {label} is that of {other}; give each folder one of its own")
            if label != taken and _overlap(folder, other):
                raise ValueError(f"{text}: its runs are those of {f'{taken}={other}' if taken else other} too")
        labels[folder] = label
    return labels


def _overlap(folder: Path, other: Path) -> bool:
    mine, theirs = folder.resolve(), other.resolve()
    return mine.is_relative_to(theirs) or theirs.is_relative_to(mine)


if __name__ == "__main__":
    sys.exit(main())
