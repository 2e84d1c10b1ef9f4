"""Which process trains which trial, so that two jobs on one results folder never train the same one at once.

A claim is a list of run ids beside a lock that its process holds while it trains them. The system releases the lock of
a process that dies, whatever it died of, so that what is left of it blocks nobody.
"""

import json
import logging
import os
import socket
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bench.files import os_errors_as_store_error, read_json
from bench.runs.folders import ResultsFolder

log = logging.getLogger(__name__)


class Claims:
    """The claims on the runs of one results folder.

    Args:
        results_dir: the folder; claims are kept in a hidden folder of it.

    Raises:
        StoreError: from `take`, if the folder cannot be written.
    """

    def __init__(self, results_dir: Path) -> None:
        self.results_dir, self.folder = results_dir, ResultsFolder(results_dir).claims

    @contextmanager
    def take(self, run_ids: Collection[str]) -> Iterator[frozenset[str]]:
        """Those of `run_ids` that no other living process has claimed; they are this one's until the context ends."""
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        claim, lock = self.folder / f"{name}.json", FileLock(self.folder / f"{name}.lock")
        try:
            with os_errors_as_store_error(self.results_dir):
                self.folder.mkdir(parents=True, exist_ok=True)
                with FileLock(self.folder / "guard"):
                    unclaimed = frozenset(run_ids) - self._find_claimed()
                    lock.acquire()
                    claim.write_text(json.dumps(sorted(unclaimed)), encoding="utf-8")
        except NotImplementedError:
            log.warning("%s: this file system has no locks; do not train the same trials twice at once", self.folder)
            unclaimed = frozenset(run_ids)
        try:
            yield unclaimed
        finally:
            _release(claim, lock)

    def _find_claimed(self) -> set[str]:
        """What living processes have claimed; the claims of dead ones are removed."""
        claimed: set[str] = set()
        for claim in self.folder.glob("*.json"):
            lock = FileLock(claim.with_suffix(".lock"))
            try:
                lock.acquire(blocking=False)
            except Timeout:
                claimed.update(_read(claim))
            else:
                _release(claim, lock)
        return claimed


def _release(claim: Path, lock: FileLock) -> None:
    claim.unlink(missing_ok=True)
    lock.release()
    Path(lock.lock_file).unlink(missing_ok=True)


def _read(claim: Path) -> list[str]:
    try:
        run_ids: list[str] = read_json(claim)
    except (OSError, ValueError):  # released in this moment
        return []
    return run_ids
