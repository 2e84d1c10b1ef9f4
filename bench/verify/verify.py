"""From the paths on the command line to one printed line per fault, difference and note."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.errors import count_of, shorten
from bench.runs.folders import find_folders
from bench.training.components import TaskShelf
from bench.verify.folder import Checked, check_folder, find_leftovers
from bench.verify.replay import CannotReplayError, choose, replay


class UsageError(Exception):
    """A mistake on the command line. Its text is one line for the user."""


def verify(paths: Sequence[Path], num_replays: int, seed: int) -> bool:
    """Check all runs below `paths`, train `num_replays` of them again, and return whether all is as it should be.

    Raises:
        UsageError: a path that is no folder, no run below any of them, a negative number.
    """
    if num_replays < 0:
        raise UsageError(f"--replay={num_replays}: expected a whole number of at least 0")
    folders = _find_runs(paths)
    checked = list(_check(folders))
    for path, what in sorted({leftover for root in paths for leftover in find_leftovers(root.resolve())}):
        _print(path, what, "note: ")
    all_equal = not num_replays or _replay(choose(checked, num_replays, seed))
    if num_replays and (num_timeouts := sum(one.status == "timeout" for one in checked)):
        print(f"note: {num_timeouts} that ran out of time were not drawn: how far they get is up to the machine")
    num_faulty = sum(bool(one.faults) for one in checked)
    print(f"{count_of(len(checked), 'run')}: {len(checked) - num_faulty} whole, {num_faulty} with faults")
    return all_equal and not num_faulty


def _find_runs(paths: Sequence[Path]) -> list[Path]:
    for path in paths:
        if not path.is_dir():
            raise UsageError(f"{_show(path)}: no such folder; give folders that hold runs, e.g. results/")
    folders = sorted({folder for path in paths for folder in find_folders(path.resolve())})
    if not folders:
        raise UsageError(f"{', '.join(map(_show, paths))}: holds no run")
    return folders


def _check(folders: Sequence[Path]) -> Iterator[Checked]:
    for folder in folders:
        checked = check_folder(folder)
        for fault in checked.faults:
            _print(folder, fault)
        yield checked


def _replay(folders: Sequence[Path]) -> bool:
    """Train runs again; True where none came out otherwise."""
    tasks = TaskShelf()
    counts = Counter(_replay_one(folder, tasks) for folder in folders)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("equal", "different", "not replayable"))
    print(f"{len(folders)} drawn to train again: {told}")
    return not counts["different"]


def _replay_one(folder: Path, tasks: TaskShelf) -> str:
    try:
        again = replay(folder, tasks)
    except CannotReplayError as reason:
        _print(folder, f"cannot be replayed: {reason}", "note: ")
        return "not replayable"
    for difference in again.differences:
        _print(folder, f"trained again, {difference}")
    outcome = "different" if again.differences else "equal"
    _print(folder, f"trained again, {outcome}; compared {again.precision}", "note: ")
    return outcome


def _print(path: Path, text: str, prefix: str = "") -> None:
    """One line, whatever characters a file brings along; at once, since a replay takes its time."""
    print(f"{prefix}{_show(path)}: {shorten(text, 600)}", flush=True)


def _show(path: Path) -> str:
    here = Path.cwd()
    return shorten(str(path.relative_to(here) if path.is_relative_to(here) else path), 4096)
