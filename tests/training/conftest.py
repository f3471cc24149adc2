from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_genmodels.training.train_vae import main
from tests.testing_utils.training import options


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps precision and processes for the life of a process; each run here is to have its own."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE's small run of 20 steps with checkpoints at 5, 10, 15 and 20; to be read, not written to."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    main(options(folder))
    return folder
