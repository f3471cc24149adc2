"""Write what this version of the library leaves behind, for `tests/test_earlier_versions.py`.

Run once with the code of the version named; never again for the same version:

    cd <checkout of that version>
    PYTHONPATH=$PWD HF_HUB_OFFLINE=1 python <this file>

It writes `<version>/<name>.tar.xz` beside this file, one for each of `RUNS`, of at most 20 kB. An archive holds

- `run/`: output folder of a run of 4 steps through the family's script, without its pictures and card, and of its
  checkpoints only that of step 2 (a family fitted in closed form has none),
- `vae_run/`: the model of such a run, the VAE that a latent diffusion model needs,
- `outputs.safetensors`: inputs and what the saved model makes of them, see `model_inputs` and `model_outputs`.
"""

from __future__ import annotations

import importlib
import inspect
import lzma
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from safetensors.torch import save_file
from torch import Tensor

import hf_genmodels
from hf_genmodels import AutoPipeline, Classifier
from hf_genmodels.loading import load_network

LARGEST = 20_000
COUNT = 3
STEPS = "--max_train_steps 4 --checkpointing_steps 2 --log_steps 1 --max_train_samples 64"
COMMON = "--train_batch_size 8 --eval_batch_size 400 --num_threads 1 --seed 0"
DIGITS = "--dataset_name builtin:digits"
TOY = "--dataset_name builtin:toy2d"
EDGES = "--dataset_name builtin:edges"
POLARIMETRIC = "--dataset_name builtin:polarimetric --dataset_config_name 32"
# Networks as narrow as these make next to nothing of their inputs until they have learnt. What rounding leaves of
# gradients that are zero must not teach them, or a run would end elsewhere on another machine.
FAST = "--learning_rate 0.05 --adam_epsilon 1e-3"
ADVERSARIAL = f"{DIGITS} --latent_dim 2 --width 1 {FAST}"
UNET = "--block_out_channels 2 --layers_per_block 1 --ddpm_num_steps 25 --ddpm_num_inference_steps 5"
UNET += " --learning_rate 0.01 --adam_epsilon 1e-4"
TRANSLATOR = f"--resolution 8 --width 1 --discriminator_width 1 --receptive_field 1 {FAST}"
# name of an archive -> its family and the options of its run
RUNS: dict[str, tuple[str, str]] = {
    "autoencoder": (
        "autoencoder",
        f"{DIGITS} --latent_dim 2 --block_out_channels 2 3 --classification_weight 0.1 --corruption gaussian",
    ),
    "vae": ("vae", f"{DIGITS} --latent_dim 2 --block_out_channels 2 3 --learn_std --beta_warmup_steps 3 --use_ema"),
    "gan": ("gan", f"{ADVERSARIAL} --conditioning cgan --gradient_penalty r1 --critic_updates 2 --use_ema"),
    "began": ("began", f"{ADVERSARIAL} --lambda_k 0.3"),
    "tempered_gan": ("tempered_gan", f"{ADVERSARIAL} --resolution 16 --lens_width 1 --lens_steps 3"),
    "avae": ("avae", f"{ADVERSARIAL} --architecture avae --latent_warmup_steps 1 --use_ema"),
    "bigan": ("bigan", f"{DIGITS} --latent_dim 2 --architecture mlp --hidden_dims 2"),
    "vaegan": ("vaegan", f"{ADVERSARIAL} --resolution 16 --lr_scheduler cosine"),
    "aae": ("aae", f"{ADVERSARIAL} --resolution 16 --latent_hidden_dims 4 --prior mixture --num_components 3"),
    "flow": ("flow", f"{DIGITS} --num_flow_steps 1 --num_scales 1 --hidden_channels 2"),
    "ddpm": ("ddpm", f"{DIGITS} {UNET} --block_out_channels 1 --snr_gamma 5"),
    "ddpm_conditional": (
        "ddpm",
        f"{TOY} --dataset_config_name rings {UNET} --class_conditional --use_ema False",
    ),
    "ddpm_latent": ("ddpm", f"{DIGITS} --resolution 2 {UNET} --use_ema False --vae_model_name_or_path vae_run"),
    "pix2pix": (
        "pix2pix",
        f"{EDGES} {TRANSLATOR} --architecture resnet --num_blocks 1 --target_image_column conditioning_image",
    ),
    "cyclegan": (
        "cyclegan",
        f"{EDGES} {TRANSLATOR} --architecture unet --num_downs 2 --norm batch --pool_size 1 --train_batch_size 2",
    ),
    "polarimetric": (
        "polarimetric",
        f"{POLARIMETRIC} {TRANSLATOR} --architecture unet --num_downs 2 --norm batch --pool_size 0 --random_flip",
    ),
    "pixelwise": ("pixelwise", f"{DIGITS} --width 1 {FAST} --num_residual_blocks 0 --packing 1 --known_pixels 0.05"),
    "gaussian": ("gaussian", f"{DIGITS} --resolution 4"),
    "gaussian_mixture": ("gaussian_mixture", f"{DIGITS} --resolution 4 --num_components 2"),
    "texture": ("texture", DIGITS),
    "classifier": ("classifier", f"{DIGITS} --block_out_channels 2 3 --feature_dim 2"),
}
FITTED = ("gaussian", "gaussian_mixture", "texture")
SHOWN = ("samples", "logs", "README.md", "*.png")
VAE_RUN = f"{DIGITS} --resolution 2 --latent_dim 1 --architecture mlp --hidden_dims 2"


def train(family: str, options: str) -> None:
    """A run through the family's script, in the working folder."""
    AcceleratorState._reset_state(reset_partial_state=True)
    steps = "" if family in FITTED else STEPS
    script = importlib.import_module(f"hf_genmodels.training.train_{family}")
    script.main([*steps.split(), *COMMON.split(), *options.split()])


def remove(folder: Path, *patterns: str) -> None:
    """Remove the files and folders in `folder` whose names match."""
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def random_images(shape: tuple[int, ...], count: int = COUNT, seed: int = 0) -> Tensor:
    """Images of 8 bits in [0, 1], or vectors of any numbers."""
    generator = torch.Generator().manual_seed(seed)
    if len(shape) == 1:
        return torch.randn(count, *shape, generator=generator)
    return torch.randint(256, (count, *shape), generator=generator) / 255


def model_inputs(folder: Path) -> dict[str, Tensor]:
    """What the calls of the model in `folder` need, by name."""
    if not (folder / "model_index.json").is_file():
        config = load_network(Classifier, folder).config
        return {"image": random_images((config.in_channels, config.sample_size, config.sample_size))}
    pipeline: Any = AutoPipeline.from_pretrained(folder)
    shape, known = pipeline.sample_shape, inspect.signature(type(pipeline).__call__).parameters
    given: dict[str, Tensor] = {}
    if "mask" in known:
        given = {"values": random_images(shape, count=1), "mask": torch.eye(shape[-1])}
    elif "image" in known:
        network = next(iter(pipeline.components.values()))
        count = COUNT if hasattr(pipeline, "encode") else 1
        given = {"image": random_images((network.config.in_channels, *shape[1:]), count)}
    elif hasattr(pipeline, "encode"):
        given = {"image": random_images(shape)}
    if "direction" in known:
        given["image_b"] = random_images(shape, count=1, seed=1)
    if getattr(pipeline, "num_classes", None) is not None:
        given["class_labels"] = torch.arange(COUNT)
    return given


@torch.no_grad()
def model_outputs(folder: Path, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the model in `folder` makes of what `model_inputs` gave.

    Returns:
        `logits` of a classifier; else `samples`, or `images` that come from the given ones (`images_b` by the way
        back), and `codes` where the pipeline encodes.
    """
    if not (folder / "model_index.json").is_file():
        return {"logits": load_network(Classifier, folder)(given["image"]).logits}
    pipeline: Any = AutoPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    known = inspect.signature(type(pipeline).__call__).parameters
    generator = torch.Generator().manual_seed(0)
    options: dict[str, Any] = {"num_inference_steps": 5} if "num_inference_steps" in known else {}
    if "class_labels" in given:
        options["class_labels"] = given["class_labels"]
    made: dict[str, Tensor] = {}
    if "mask" in known:
        made["samples"] = pipeline(given["values"], given["mask"], generator=generator, output_type="pt").images
    elif "image" in known:
        made["images"] = pipeline(given["image"], output_type="pt").images
    else:
        made["samples"] = pipeline(batch_size=COUNT, generator=generator, output_type="pt", **options).images
    if "image_b" in given:
        made["images_b"] = pipeline(given["image_b"], direction="b_to_a", output_type="pt").images
    if hasattr(pipeline, "encode"):
        made["codes"] = pipeline.encode(given["image"], **options)
    return made


def without_owner(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """An entry of an archive that tells neither who wrote it nor when."""
    info.mtime = info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def write(name: str, folder: Path) -> None:
    """Write the archive of `RUNS[name]` into `folder`."""
    family, options = RUNS[name]
    with tempfile.TemporaryDirectory() as place, chdir(place):
        if "vae_run" in options:
            train("vae", f"{VAE_RUN} --output_dir vae_run")
            remove(Path("vae_run"), "checkpoint-*", "metrics.json", "training_*", *SHOWN)
        train(family, f"{options} --output_dir run")
        remove(Path("run"), "checkpoint-4", *SHOWN)
        given = model_inputs(Path("run"))
        made = model_outputs(Path("run"), given)
        assert not given.keys() & made.keys()
        save_file({name: value.contiguous() for name, value in {**given, **made}.items()}, "outputs.safetensors")
        archive = folder / f"{name}.tar.xz"
        with (
            lzma.open(archive, "w", preset=9 | lzma.PRESET_EXTREME) as packed,
            tarfile.open(fileobj=packed, mode="w") as file,
        ):
            files = (path for path in Path().rglob("*") if path.is_file())
            for path in sorted(files, key=lambda path: (path.suffix, path.name, path)):  # like files side by side
                file.add(path, filter=without_owner)
    size = archive.stat().st_size
    assert size <= LARGEST, f"{archive} has {size} bytes; make the networks smaller"
    print(f"{archive}: {size} bytes")


def main() -> None:
    """Write the archives of all runs, or of those named."""
    folder = Path(__file__).resolve().parent / hf_genmodels.__version__
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    for name in sys.argv[1:] or RUNS:
        write(name, folder)


if __name__ == "__main__":
    main()
