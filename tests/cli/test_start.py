"""What a small training need not wait for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOT_NEEDED = {
    "joblib",
    "matplotlib",
    "pandas",
    "scipy",
    "sklearn",
    "sympy",
    "torch._dynamo",
    "torch._inductor",
    "wandb",
}
LIST_IMPORTED = """
import sys
from bench.__main__ import main
main()
print(*sys.modules, sep="\\n", file=open("modules.txt", "w"))
"""


@pytest.mark.slow
def test_a_training_of_our_own_imports_neither_what_reports_nor_what_compiles(tmp_path: Path) -> None:
    args = ["optimizer=adam", "task=mlp", "task.steps=10", "tracker=none", "device=cpu", "results_dir=results"]
    threads = {**os.environ, "OMP_NUM_THREADS": "2"}  # so that there is a choice of them
    command = [sys.executable, "-c", LIST_IMPORTED, *args]
    subprocess.run(command, cwd=tmp_path, env=threads, check=True, capture_output=True)
    assert len(list(tmp_path.glob("results/*/*/*/metrics.parquet"))) == 1
    assert not NOT_NEEDED.intersection((tmp_path / "modules.txt").read_text().split())
