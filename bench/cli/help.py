"""What `--help` prints: usage, then what there is to choose from."""

import re
from collections.abc import Sequence
from pathlib import Path

from bench.cli.folders import GROUPS, config_dirs
from bench.config.folders import find_conf_dir

COMMANDS = ("judge", "times", "report", "check", "verify")  # each is `python -m bench.COMMAND` too

USAGE = """\
Does this optimizer really beat a well-tuned AdamW?

usage: python -m bench [KEY=VALUE ...]                      train one trial, or the grid of a sweep
       python -m bench -m optimizer=adamw,adamuon ...       multiply jobs (Hydra's multirun)
       python -m bench KEY=VALUE ... --cfg job              show the composed configuration
       python -m bench judge optimizer=NAME                 is it better than AdamW? a word per task
       python -m bench times optimizer=adamw,NAME           what a step costs, in interleaved rounds
       python -m bench report results                       tables, plots and a page from the runs
       python -m bench verify results                       check stored runs
       python -m bench check optimizer=NAME                 put an optimizer through the conformance checks

`fairstep` is the same as `python -m bench`, `python -m bench.report` as `fairstep report`, and so on.

options of Hydra: --multirun -m, --cfg, --info, --config-dir DIR (your own conf/), --hydra-help for all of them;
others: --version
an extra such as [integrations] is installed in a clone by pip install -c constraints.txt -e '.[integrations]', else by
pip install 'fairstep[integrations]'
"""


def help_text(args: Sequence[str]) -> str:
    """Usage, then every group with a line on each of its members, then the other keys."""
    parts = [USAGE]
    for group in GROUPS:
        if files := group_members(group, args):
            width = max(map(len, files))
            lines = [f"  {name:<{width}}  {_first_comment(file)}" for name, file in files.items()]
            parts.append(f"{group}=\n" + "\n".join(lines) + "\n")
    keys = [
        line for line in (find_conf_dir() / "config.yaml").read_text().splitlines() if re.match(r"[a-z_]+: .*#", line)
    ]
    parts.append("other keys, with their defaults\n" + "\n".join(f"  {key}" for key in keys))
    return "\n".join(parts)


def _first_comment(file: Path) -> str:
    lines = (
        line.removeprefix("#").strip()
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.startswith("#")
    )
    return next((line for line in lines if not line.startswith(("@package", "yaml-language-server"))), "")


def group_members(group: str, args: Sequence[str]) -> dict[str, Path]:
    """The files of a group by name, the user's own before shipped ones."""
    files = {file.stem: file for folder in reversed(config_dirs(args)) for file in (folder / group).glob("*.yaml")}
    return dict(sorted(files.items()))
