"""How this process talks to wandb: by wandb's own settings, online or offline, and never with a question."""

import logging
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from bench.config.session import TrackerConfig

log = logging.getLogger(__name__)
TIMEOUT = 20.0  # seconds that a silent server may cost, once in a process
LEAN = {  # what a run.json tells already, or nobody asked for: most of the time and the files of a short run
    "silent": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "x_save_requirements": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "symlink": False,  # to the latest debug logs
}
NO_ANSWER = "the wandb server %s does not answer (%s): runs are kept on disk from now on"
Mode = Literal["online", "offline", "disabled"]


@dataclass
class Session:
    """wandb's settings in this process: environment variables, `wandb login`, `wandb offline`, settings files.

    Attributes:
        settings: as wandb reads them.
        mode: offline also where nobody is logged in, and once the server has not answered.
        agent_run_id: the run that `wandb agent` expects of this job, or that WANDB_RUN_ID asks for.
        sweep_id: the agent's sweep.
    """

    settings: Any
    mode: Mode
    agent_run_id: str | None
    sweep_id: str | None

    def init(self, tracker: TrackerConfig, folder: Path, *, is_agents: bool, **identity: Any) -> Any:
        """A new wandb run, offline where the server fails.

        Args:
            tracker: project and entity, where wandb's settings name none.
            folder: where its files go, unless WANDB_DIR says otherwise.
            is_agents: whether this is the one run that the agent waits for.
            identity: of the run, as `wandb.init` takes it.
        """
        options = {
            **identity,
            "project": tracker.project or self.settings.project or "fairstep",
            "entity": tracker.entity or self.settings.entity,
            "dir": None if "WANDB_DIR" in os.environ else folder,
        }
        if is_agents and self.agent_run_id:
            options["id"] = self.agent_run_id
        sweep_id = self.sweep_id if is_agents else None
        try:
            return _init(self.mode, sweep_id, options)
        except Exception as error:
            if self.mode != "online":
                raise
            self.go_offline(str(error))
            return _init(self.mode, sweep_id, {**options, "id": None})  # wandb still holds the first id

    def go_offline(self, reason: str) -> None:
        """Keep all further runs of this process on disk: a server that is down costs one timeout."""
        self.mode = "offline"
        log.warning(NO_ANSWER, self.settings.base_url, reason.partition("\n")[0])

    def finish(self, run: Any, exit_code: int) -> None:
        """Close a run. What wandb noted for its own developers, a third of its bytes, is kept of failed ones only."""
        started, logs = time.monotonic(), Path(run.settings.log_user).parent
        run.finish(exit_code=exit_code)
        for path in logs.glob("debug*.log") if exit_code == 0 else ():
            path.unlink(missing_ok=True)
        if self.mode == "online" and time.monotonic() - started >= TIMEOUT:
            self.go_offline("it takes too long to finish a run")


def _init(mode: Mode, sweep_id: str | None, options: Mapping[str, Any]) -> Any:
    import wandb

    settings = wandb.Settings(**LEAN, init_timeout=TIMEOUT, finish_timeout=TIMEOUT)  # type: ignore[arg-type]
    if sweep_id:
        settings.sweep_id = sweep_id
    resume: Literal["allow"] | None = "allow" if mode == "online" else None
    return wandb.init(**options, mode=mode, resume=resume, reinit="create_new", settings=settings)


@cache
def session() -> Session:
    """The session of this process, opened at the first call."""
    import wandb

    settings = wandb.setup(wandb.Settings(silent=True)).settings
    found = Session(settings, _choose_mode(settings), settings.run_id, settings.sweep_id)
    settings.run_id = settings.sweep_id = None  # wandb would give every run of the process this one id
    return found


def _choose_mode(settings: Any) -> Mode:
    import wandb

    if settings._noop:
        return "disabled"
    if settings._offline:
        return "offline"
    try:
        if not wandb.login(prompt=False, verify=False):
            return "offline"
    except Exception as error:  # a key that is malformed, a file that cannot be read
        log.warning("wandb: no login (%s): runs are kept on disk", error)
        return "offline"
    if silence := _ask(settings.base_url):
        log.warning(NO_ANSWER, settings.base_url, silence)
        return "offline"
    return "online"


def _ask(url: str) -> str | None:
    """Why a server does not answer, None if it does, with whatever it says."""
    try:
        urllib.request.urlopen(url, timeout=TIMEOUT).close()
    except urllib.error.HTTPError:
        return None
    except OSError as error:
        reason = getattr(error, "reason", error)
        return None if isinstance(reason, ssl.SSLError) else str(reason)  # wandb has its own say on certificates
    return None
