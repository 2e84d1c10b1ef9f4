"""Every task of conf/task, built from its yaml as a user would get it; a new yaml is tested without a change here."""

import importlib
import io
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tasks.base import Task

TASK_YAMLS = sorted((Path(__file__).parents[2] / "conf" / "task").glob("*.yaml"))
HARNESS_KEYS = {
    "name",
    "_target_",
    "steps",
    "eval_every",
    "target",
    "relevant",
    "tuned_lr",
    "loss_scale",
    "accumulate",
    "spike",
    "variant",
    "variants",
}

Archive = Callable[[str, dict[str, bytes]], Path]


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from a second thread, and on a busy machine lose a lot by waiting for it."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def pickled_batch(seed: int, num_images: int = 16) -> bytes:
    """One batch file of random images in CIFAR-10's layout."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (num_images, 3072), dtype=np.uint8)
    labels = rng.integers(0, 10, num_images).tolist()
    batch = {b"data": images, b"labels": labels, b"batch_label": b"", b"filenames": []}
    return pickle.dumps(batch, protocol=2)


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., bytes]:
    return pickled_batch


@pytest.fixture(scope="session")
def cifar_files() -> dict[str, bytes]:
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    return {f"cifar-10-batches-py/{name}": pickled_batch(seed) for seed, name in enumerate(names)}


@pytest.fixture(scope="session")
def make_archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    folder = tmp_path_factory.mktemp("archives")

    def make(name: str, files: dict[str, bytes]) -> Path:
        path = folder / f"{name}.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for member_name, content in files.items():
                member = tarfile.TarInfo(member_name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return path

    return make


@pytest.fixture(scope="session", params=TASK_YAMLS, ids=lambda path: path.stem)
def task_config(request: pytest.FixtureRequest, cifar_files: dict[str, bytes], make_archive: Archive) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(request.param.read_text())
    if config["name"] == "cifar":  # its default is a download
        config["path"] = str(make_archive("tiny", cifar_files))
    return config


@pytest.fixture(scope="session")
def make_task() -> Callable[..., Task]:
    def make(config: dict[str, Any], **changes: object) -> Task:
        module, _, class_name = config["_target_"].rpartition(".")
        options = {key: value for key, value in config.items() if key not in HARNESS_KEYS} | changes
        task_class = getattr(importlib.import_module(module), class_name)
        try:
            task: Task = task_class(device=torch.device("cpu"), **options)
        except ValueError as error:
            if "fairstep[data]" in str(error):
                pytest.skip("needs the extra `data`")
            raise
        return task

    return make


@pytest.fixture(scope="session")
def task(task_config: dict[str, Any], make_task: Callable[..., Task]) -> Task:
    return make_task(task_config, batch_size=min(task_config["batch_size"], 16))
