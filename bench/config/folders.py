"""Where the shipped configuration lies. Imports nothing, so that `--help` is quick."""

from pathlib import Path


def find_conf_dir() -> Path:
    """The shipped `conf/`: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parents[1]
    return here / "conf" if (here / "conf").is_dir() else here.parent / "conf"
