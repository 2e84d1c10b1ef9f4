"""What was judged against a baseline in one folder: a further candidate gets a smaller share of the allowed error."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from bench.config.sweep import RAW_LOSS
from bench.config.validation import Strict
from bench.errors import StoreError
from bench.files import os_errors_as_store_error, read_json, replace_durably
from bench.runs.trial import Trial

LEDGER_FILE = "judged.json"


class Entry(Strict):
    """One question; two with the same key would train the same trials and choose by the same loss."""

    key: str
    candidate: str
    baseline: str
    tasks: dict[str, str | None]  # the verdict on each task, None as long as there is none


class Ledger:
    """All questions of one results folder, in the order in which they were first asked.

    Args:
        results_dir: the folder.

    Raises:
        StoreError: from every method, if the file cannot be read or written: numbers that are lost would let false
            alarms through.
    """

    def __init__(self, results_dir: Path) -> None:
        self.results_dir, self.path = results_dir, results_dir / LEDGER_FILE

    def number(self, key: str, candidate: str, baseline: str, tasks: Sequence[str]) -> int:
        """The position of a question among those about the same baseline, from 1; a new one is written down."""
        with self._lock_file():
            entries = self._read()
            if key not in [entry.key for entry in entries]:
                entries.append(Entry(key=key, candidate=candidate, baseline=baseline, tasks=dict.fromkeys(tasks)))
                self._write(entries)
            return [entry.key for entry in entries if entry.baseline == baseline].index(key) + 1

    def conclude(self, key: str, verdicts: Mapping[str, str]) -> None:
        """Write the verdicts on a question beside it."""
        with self._lock_file():
            changed = [
                entry.model_copy(update={"tasks": dict(verdicts)}) if entry.key == key else entry
                for entry in self._read()
            ]
            self._write(changed)

    @contextmanager
    def _lock_file(self) -> Iterator[None]:
        with os_errors_as_store_error(self.results_dir):
            self.results_dir.mkdir(parents=True, exist_ok=True)
            with FileLock(self.results_dir / f".{LEDGER_FILE}.lock"):
                yield

    def _read(self) -> list[Entry]:
        try:
            return [Entry.model_validate(item) for item in read_json(self.path)]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError) as error:
            text = "is damaged; without it nobody knows how many candidates were judged here: judge in another folder"
            raise StoreError(f"{self.path} {text}") from error

    def _write(self, entries: Sequence[Entry]) -> None:
        text = json.dumps([entry.model_dump() for entry in entries], indent=1)
        replace_durably(self.path, text.encode())


def key_of(trials: Sequence[Trial]) -> str:
    """What tells a question from all others: the trials that it begins with, and what they are chosen by."""
    names = [trial.run_id if trial.objective == RAW_LOSS else f"{trial.run_id} {trial.objective}" for trial in trials]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
