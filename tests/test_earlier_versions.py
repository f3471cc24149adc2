"""What earlier versions left behind goes on working: their models give what they gave, their runs can be gone on with.

`assets/earlier_versions/write.py` wrote the archives, each with the version that its folder is named after.
"""

from __future__ import annotations

import importlib
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor

from hf_genmodels.data import batches, sets
from hf_genmodels.objectives.base import Noise
from tests.assets.earlier_versions.write import FITTED, model_outputs

FOLDER = Path(__file__).resolve().parent / "assets" / "earlier_versions"
ARCHIVES = sorted(str(path.relative_to(FOLDER)).removesuffix(".tar.xz") for path in FOLDER.glob("*/*.tar.xz"))
TRAINED = [name for name in ARCHIVES if Path(name).name not in FITTED]
RUN = Path("run")
OPTIONS = RUN / "training_args.json"
# What an autoencoder's weights were called: a layer `code` cannot be exported.
RENAMED = {"code.weight": "to_latents.weight", "code.bias": "to_latents.bias"}


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps precision for the life of a process; each run here is to have its own."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def archive(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The archive of a test, unpacked into the working folder."""
    with tarfile.open(FOLDER / f"{request.param}.tar.xz") as file:
        file.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return str(request.param)


def train(*words: str) -> None:
    """Go on through the script of the run's family with the run's options."""
    family = json.loads(OPTIONS.read_text())["family"]
    script = importlib.import_module(f"hf_genmodels.training.train_{family}")
    script.main(["--config", str(OPTIONS), *words])


def model_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a model and of the networks that only its training needs, by folder and name."""
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        parent = file.relative_to(folder).parent
        tensors |= {f"{parent}: {RENAMED.get(name, name)}": value for name, value in load_file(file).items()}
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """All but those of checkpoints."""
    files = folder.rglob("*.safetensors")
    return [file for file in files if not file.relative_to(folder).parts[0].startswith("checkpoint-")]


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Compare tensors by name."""
    assert theirs
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("archive", ARCHIVES, indirect=True)
def test_models_give_what_they_gave(archive: str) -> None:
    stored = load_file("outputs.safetensors")
    made = model_outputs(RUN, stored)
    assert_close(made, {name: stored[name] for name in made})


@pytest.mark.parametrize("archive", TRAINED, indirect=True)
def test_training_goes_on_from_models(archive: str) -> None:
    options = json.loads(OPTIONS.read_text())
    options["arguments"].pop("vae_model_name_or_path", None)  # the model has its VAE
    OPTIONS.write_text(json.dumps(options))
    words = "--pretrained_model_name_or_path run --output_dir further --max_train_steps 1 --learning_rate 1e-12"
    train(*words.split())
    assert json.loads(Path("further/metrics.json").read_text())["step"] == 1
    before, after = model_weights(RUN), model_weights(Path("further"))
    assert before.keys() == after.keys()
    learnt = [name for name in before if "running_" not in name and "num_batches" not in name]
    assert_close({name: after[name] for name in learnt}, {name: before[name] for name in learnt})


@pytest.fixture
def earlier_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The random numbers and the order of 0.1.0, by which alone its runs end as they did."""
    counts: list[int] = []

    def earlier_order(seed: int, epoch: int, positions: np.ndarray, count: int) -> np.ndarray:
        counts.append(count)
        return sets.generator(seed, epoch, sets.ORDER).permutation(count)[positions]

    def earlier_draws(seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
        return sets.generator(seed, epoch, sets.AUGMENTATION).random((sets.NUM_DRAWS, counts[-1]))[:, indices]

    def drawn_by(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def drawn(noise: Noise, shape: tuple[int, ...], like: Tensor) -> Tensor:
            generator = vars(noise).setdefault("generator", torch.Generator().manual_seed(noise.seed))
            return draw(shape, generator=generator).to(like.dtype)

        return drawn

    monkeypatch.setattr(batches, "order", earlier_order)
    monkeypatch.setattr(batches, "augmentation_draws", earlier_draws)
    monkeypatch.setattr(Noise, "normal", drawn_by(torch.randn))
    monkeypatch.setattr(Noise, "uniform", drawn_by(torch.rand))


@pytest.mark.usefixtures("earlier_numbers")
@pytest.mark.parametrize("archive", TRAINED, indirect=True)
def test_runs_resume(archive: str) -> None:
    finished = model_weights(RUN)
    for file in weight_files(RUN):
        file.unlink()
    train("--resume_from_checkpoint", "latest")
    assert json.loads((RUN / "metrics.json").read_text())["step"] == 4
    resumed = model_weights(RUN)
    assert finished.keys() <= resumed.keys()  # beside checkpoints there may be networks that nothing trains
    same = [name for name in finished if not is_averaged_statistic(name)]
    assert_close({name: resumed[name] for name in same}, {name: finished[name] for name in same})


@pytest.mark.parametrize("archive", ["0.1.0/vae", "0.1.0/pix2pix"], indirect=True)
def test_runs_resume_with_the_numbers_of_today(archive: str) -> None:
    train("--resume_from_checkpoint", "latest")
    assert json.loads((RUN / "metrics.json").read_text())["step"] == 4


def is_averaged_statistic(name: str) -> bool:
    """Whether a tensor of `model_weights` is a batch statistic of an average: 0.1.0 copied the raw network's."""
    averages = json.loads(OPTIONS.read_text())["arguments"]["use_ema"]
    return averages and "running_" in name and not name.startswith("training_networks")
