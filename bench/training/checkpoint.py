"""Checkpoints of trials in training: one file per pack, replaced only when the next one is complete.

A file is a line of JSON (format, SHA-256 of the rest, run ids of the pack) and what `torch.save` wrote of the state. It
is loaded without executing anything (`weights_only=True`), after its checksum.
"""

import hashlib
import io
import json
import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from bench.config.cadence import Cadence
from bench.errors import one_line
from bench.files import make_folder, set_aside, sync_folder, write_durably

log = logging.getLogger(__name__)
FORMAT = 1
MAX_HEADER_BYTES = 2**20
State = Mapping[str, Any]


class Checkpoint:
    """The checkpoint of trials that train together.

    Args:
        folder: where checkpoints are kept.
        run_ids: the trials, in the order of the pack.
        cadence: when one is due.
    """

    def __init__(self, folder: Path, run_ids: Sequence[str], cadence: Cadence) -> None:
        self.run_ids, self.cadence = list(run_ids), cadence
        self.path = folder / f"{hashlib.sha256(' '.join(run_ids).encode()).hexdigest()[:16]}.ckpt"
        self._last = time.monotonic()

    def is_due(self, step: int) -> bool:
        return self.cadence.is_due(step, time.monotonic() - self._last)

    def save(self, state: State) -> None:
        """Replace the last checkpoint. Where that fails, the last one stays and the training goes on."""
        self._last = time.monotonic()
        content = io.BytesIO()
        try:
            torch.save(dict(state), content)
        except Exception as error:  # whatever a foreign optimizer keeps in its state
            log.warning("this state cannot be saved, so there will be no checkpoint (%s)", one_line(str(error)))
            self.cadence = Cadence()
            return
        header = {"format": FORMAT, "sha256": _digest(content.getbuffer()), "run_ids": self.run_ids}
        draft = self.path.with_suffix(".tmp")
        try:
            make_folder(self.path.parent)
            write_durably(draft, json.dumps(header).encode() + b"\n", content.getbuffer())
            os.replace(draft, self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            kept = "the one before is kept" if self.path.exists() else "there is none before it"
            log.warning("%s: this checkpoint could not be written (%s); %s", self.path, error.strerror or error, kept)

    def load(self) -> State | None:
        """The state that was saved last, None if there is none. A damaged file is set aside and named."""
        header = _read_header(self.path)
        if header is None:
            return None
        content = self.path.read_bytes().partition(b"\n")[2]
        if _digest(content) == header.get("sha256") and header.get("format") == FORMAT:
            try:
                state: State = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
                return state
            except Exception as error:  # whatever a foreign state holds that may not be loaded
                log.debug("a checkpoint does not load", exc_info=error)
        self.reject("does not load, or fails its checksum")
        return None

    def reject(self, reason: str) -> None:
        """Set the file aside, and say so: its trials begin again."""
        log.warning("%s %s: set aside as %s; its trials begin again", self.path, reason, set_aside(self.path))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def find_checkpointed(folder: Path, run_ids: Collection[str]) -> Iterator[list[str]]:
    """The packs below `folder` that have a checkpoint and whose trials are all among `run_ids`, each trial once."""
    left = set(run_ids)
    for path in sorted(folder.glob("*.ckpt")):
        pack = (_read_header(path) or {}).get("run_ids")
        if isinstance(pack, list) and pack and all(isinstance(run_id, str) and run_id in left for run_id in pack):
            left.difference_update(pack)
            yield pack


def _read_header(path: Path) -> Mapping[str, object] | None:
    """The first line, None if there is no file; empty where it is no header."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.readline(MAX_HEADER_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
