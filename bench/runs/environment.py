"""Where a run was measured: versions, machine, source state."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import torch

import bench
from bench.runs.schema import Environment


def describe_environment(device: str) -> Environment:
    """Versions and machine as stored with every run."""
    cuda = torch.device(device).type == "cuda"
    return Environment(
        bench_version=bench.__version__,
        python=platform.python_version(),
        torch=str(torch.__version__),
        platform=platform.platform(),
        device=torch.device(device).type,
        device_name=torch.cuda.get_device_name(device) if cuda else _processor(),
        cuda=torch.version.cuda if cuda else None,
        num_threads=torch.get_num_threads(),
        tf32=torch.backends.cuda.matmul.allow_tf32 if cuda else None,
        git=_git_commit(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


@cache
def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()} x {os.cpu_count()}"


@cache
def _git_commit() -> str | None:
    """Commit of the checkout that this code runs from, `-dirty` if it was changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
