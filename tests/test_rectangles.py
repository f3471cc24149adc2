"""Images that are no squares: every family trains on them, saves, reloads, makes and measures them, or says what fits.

What a family trains with is in its case file, `tests/families/<family>.py`.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from hf_genmodels import AutoPipeline, Classifier
from hf_genmodels.cli import main as cli
from hf_genmodels.data import DataArguments
from hf_genmodels.evaluation import evaluate_pipeline
from hf_genmodels.families import FAMILIES, OURS
from hf_genmodels.loading import load_network
from hf_genmodels.metrics.extractors import load_extractor
from tests.families import CASES
from tests.testing_utils.pipelines import draw
from tests.testing_utils.refusals import refused

LOOP = "--max_train_steps 1 --checkpointing_steps 0 --train_batch_size 8 --max_train_samples 32 --eval_batch_size 1000"
FIT = "--train_batch_size 1000"
SMALL = "--latent_dim 2 --width 2"
# family and architecture -> options in place of those of the case
MORE = {
    "autoencoder mlp": "--latent_dim 2 --architecture mlp --hidden_dims 8",
    "vae mlp": "--latent_dim 2 --architecture mlp --hidden_dims 8",
    "gan mlp": "--latent_dim 2 --architecture mlp --hidden_dims 8",
    "gan sngan": f"--architecture sngan {SMALL}",
    "bigan mlp": "--latent_dim 2 --architecture mlp --hidden_dims 8",
    "flow realnvp": "--architecture realnvp --num_scales 2 --hidden_channels 2",
    "flow nice": "--architecture nice --hidden_dims 8",
    "pix2pix resnet": "--architecture resnet --num_blocks 1 --width 2 --discriminator_width 2 --receptive_field 16",
    "pixelwise dcgan": "--architecture dcgan --width 2 --known_pixels 0.05",
    "pixelwise up_encdec": "--architecture up_encdec --width 2 --known_pixels 0.05 --constraint_noise beta",
}
SIZE = "--resolution 8 16"


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps precision for the life of a process; each run here is to have its own."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def train(name: str, folder: Path, more: str = SIZE) -> None:
    family = name.split()[0]
    case = CASES[family]
    loop = FIT if FAMILIES[family].is_fitted else LOOP
    own = MORE.get(name, case.options)
    words = f"--dataset_name {case.dataset_name} --output_dir {folder} --num_threads 1 {loop} {own} {more}".split()
    importlib.import_module(f"hf_genmodels.training.train_{family}").main(words)


@pytest.mark.parametrize("name", [*OURS, *MORE])
def test_train_save_load_sample_evaluate(name: str, tmp_path: Path) -> None:
    folder, family = tmp_path / "run", name.split()[0]
    size = {"gan sngan": (32, 64), "pixelwise up_encdec": (12, 20)}.get(name, (8, 16))
    train(name, folder, f"--resolution {size[0]} {size[1]}")
    configs = [json.loads(path.read_text()) for path in folder.rglob("config.json")]
    sizes = [config["sample_size"] for config in configs if config.get("sample_size") is not None]
    assert sizes and all(each == list(size) for each in sizes)
    card = (folder / "README.md").read_text()
    assert f"--resolution {size[0]} {size[1]}" in card
    if family in ("pix2pix", "cyclegan", "polarimetric", "classifier"):
        snippet = next(code for code in re.findall(r"```python\n(.*?)```", card, re.S) if "from_pretrained" in code)
        exec(re.sub(r'from_pretrained\(".*?"\)', f"from_pretrained({str(folder)!r})", snippet), {})
    if FAMILIES[family].pipeline is None:
        assert load_network(Classifier, folder)(torch.zeros(2, 1, *size)).logits.shape == (2, 10)
        return
    pipeline = AutoPipeline.from_pretrained(folder)
    assert pipeline.sample_shape[1:] == size
    images = draw(pipeline, output_type="pt").images
    assert images.shape[2:] == size and images.isfinite().all()
    results = evaluate_pipeline(
        pipeline,
        DataArguments(dataset_name=CASES[family].dataset_name, resolution=list(size)),
        split="test",
        metrics=["swd" if "samples" in pipeline.measures or "reconstructions" not in pipeline.measures else "mse"],
        num_samples=4,
        batch_size=4,
        extractor="pixels",
        seed=0,
        progress=False,
    )
    assert results[0]["value"] >= 0


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        *(
            (name, "8 11", "sample_size 8x11 must be halved 1 times, and 11 is no multiple of 2; use 12")
            for name in ("avae", "bigan", "vaegan", "aae", "gan", "tempered_gan")
        ),
        ("pixelwise", "8 11", "multiples of 4, builtin:digits has 8x11; use --resolution 8 12"),
        ("began", "17 32", "sample_size 17x32 is no power of two of at least 8; use 16"),
        ("began", "16 17", "sample_size 16x17 must be halved 1 times, and 17 is no multiple of 2; use 16"),
        ("gan sngan", "32 36", "4 block_out_channels do not lead from 4 to 32x36 pixels"),
        ("gan sngan", "16 32", "needs images of 32, 64 or 128 pixels, builtin:digits has 16x32; use --resolution 32"),
        ("pixelwise", "4 8", "needs images of at least 8 pixels, builtin:digits has 4x8; use --resolution 8"),
        ("ddpm", "8 11", "height and width of images must be multiples of 2, but builtin:digits has 8x11"),
        ("flow", "8 11", "images of size 8x11 do not divide by 2"),
        ("pix2pix", "8 10", "multiples of 4, builtin:edges has 8x10; use --resolution 8"),
        ("cyclegan", "8 10", "multiples of 4, builtin:edges has 8x10; use --resolution 8"),
        ("polarimetric", "8 10", "multiples of 4, builtin:polarimetric has 8x10; use --resolution 8"),
        ("vae", "2 8", "resolution 2x8 is too small for 2 stride-2 blocks"),
        ("classifier", "4 8", "sample_size 4x8 is too small; use 8 or more"),
    ],
)
def test_sizes_that_layers_cannot_have_are_refused(name: str, size: str, message: str, tmp_path: Path) -> None:
    with refused(re.escape(message)) as error:
        train(name, tmp_path / "run", f"--resolution {size}")
    assert "--resolution" in str(error.value) and not (tmp_path / "run").exists()


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = str(tmp_path / "run"), tmp_path / "samples"
    train("vae", Path(model), "--resolution 8 16")
    assert cli(["sample", model, "--num_samples", "3", "--output_dir", str(out)]) == 0
    assert {Image.open(path).size for path in out.glob("[0-9]*.png")} == {(16, 8)}
    words = ["evaluate", model, "--dataset_name", "builtin:digits", "--metrics", "mse", "--num_samples", "8"]
    assert cli([*words, "--resolution", "8", "16"]) == 0
    capsys.readouterr()
    assert cli([*words, "--resolution", "16", "8"]) == 1
    assert "samples of shape (1, 8, 16), the data have (1, 16, 8)" in capsys.readouterr().err


def test_a_saved_model_goes_on_with_its_own_size_alone(tmp_path: Path) -> None:
    train("vae", tmp_path / "first")
    start = f"--pretrained_model_name_or_path {tmp_path / 'first'}"
    with refused(r"takes samples of shape \(1, 8, 16\), builtin:digits has \(1, 16, 8\)"):
        train("vae", tmp_path / "tall", f"--resolution 16 8 {start}")
    train("vae", tmp_path / "second", f"--resolution 8 16 {start}")
    assert json.loads((tmp_path / "second" / "vae" / "config.json").read_text())["sample_size"] == [8, 16]


def test_diffusion_in_the_latents_of_rectangles(tmp_path: Path) -> None:
    train("vae", tmp_path / "vae")
    train("ddpm", tmp_path / "run", f"{SIZE} --block_out_channels 8 --vae_model_name_or_path {tmp_path / 'vae'}")
    pipeline = AutoPipeline.from_pretrained(tmp_path / "run")
    assert pipeline.sample_shape == (1, 8, 16) and draw(pipeline, output_type="np").images.shape == (3, 8, 16, 1)


def test_a_classifier_of_rectangles_measures_images_of_any_size(tmp_path: Path) -> None:
    train("classifier", tmp_path / "run")
    extractor = load_extractor(str(tmp_path / "run"))
    assert extractor.describe((1, 4, 8))["resize"] == "bilinear 4x8 to 8x16"
    assert extractor(torch.rand(2, 1, 4, 8)).features.shape == (2, 5)
