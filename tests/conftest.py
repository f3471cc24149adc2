"""Every test runs offline, with a Hub folder of its own process and one torch thread per parallel worker."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# huggingface_hub reads these when it is first imported. The user's own cache, token and launch configuration stay out.
HF_HOME = tempfile.TemporaryDirectory(prefix="hf_genmodels-tests-", ignore_cleanup_errors=True)
os.environ |= {
    "HF_HOME": HF_HOME.name,
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
os.environ.pop("HF_TOKEN", None)


def pytest_unconfigure(config: pytest.Config) -> None:
    HF_HOME.cleanup()


@pytest.fixture(autouse=True)
def _torch_threads() -> Iterator[None]:
    """One thread under pytest-xdist; what a training script sets does not reach the next test."""
    import torch

    threads = 1 if "PYTEST_XDIST_WORKER" in os.environ else torch.get_num_threads()
    torch.set_num_threads(threads)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real image sets, where the environment names one."""
    if "HF_GENMODELS_DATA" not in os.environ:
        pytest.skip("HF_GENMODELS_DATA is not set")
    return Path(os.environ["HF_GENMODELS_DATA"])
