"""What a run leaves behind beside its checkpoints: pictures, the model, its figures and its card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from diffusers import ModelMixin
from PIL import Image
from torch import Tensor

import hf_genmodels
from hf_genmodels.cards import component_folders, load_card
from hf_genmodels.errors import UserError
from hf_genmodels.families import Family
from hf_genmodels.files import replacing
from hf_genmodels.hub import publish, write_card
from hf_genmodels.plots import image_grid, line_chart, scatter, stack_pictures

from . import checkpointing
from .health import is_gradient_norm

if TYPE_CHECKING:
    from .run import Run

WRITTEN = ("samples", "training_networks", checkpointing.FROZEN, "logs", "metrics.json", "losses.png")
MODEL_WITHOUT_PIPELINE = ("config.json", "diffusion_pytorch_model.safetensors")


def check_output_dir(output_dir: Path, resume: bool, overwrite: bool, resumable: bool = True) -> None:
    """Refuse a folder that is not empty, unless its run is resumed or to be overwritten.

    Args:
        output_dir: The folder.
        resume: Its run is to go on.
        overwrite: Its run is to be removed.
        resumable: Runs of this family can go on.

    Raises:
        UserError: The folder is in use, is no folder, or has a card that cannot be read.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"--output_dir {output_dir} is a file")
    if output_dir.is_dir() and any(output_dir.iterdir()) and not (resume or overwrite):
        go_on = "--resume_from_checkpoint latest to go on, " if resumable else ""
        raise UserError(
            f"--output_dir {output_dir} is not empty; use {go_on}--overwrite_output_dir to start anew, "
            "or another folder"
        )
    if (output_dir / "README.md").is_file():
        load_card(output_dir / "README.md")  # which the card will be written into


def make_output_dir(output_dir: Path, overwrite: bool) -> None:
    """Create the folder; with `overwrite`, remove what an earlier run of ours left in it (and nothing else).

    Raises:
        UserError: It cannot be created or written to.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for path in left_by_earlier_run(output_dir):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        probe = output_dir / ".write-test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--output_dir {output_dir} cannot be written: {error.strerror}") from None


def left_by_earlier_run(output_dir: Path) -> list[Path]:
    """What a run of ours wrote into its output folder.

    `training_args.json`, which a run writes first and by which it is known, comes last. The card is not among them: it
    is written anew with what its user added.
    """
    options, index = output_dir / "training_args.json", output_dir / "model_index.json"
    if not options.is_file():
        return []
    written = [*checkpointing.list_checkpoints(output_dir), *output_dir.glob(".partial-checkpoint-*")]
    written += [output_dir / name for name in WRITTEN]
    if index.is_file():
        written += [index, *component_folders(output_dir).values()]
    else:
        written += [output_dir / name for name in MODEL_WITHOUT_PIPELINE]
    return [*written, options]


def draw(picture: Tensor) -> Image.Image:
    """(batch, channels, height, width) in [0, 1] as a grid, (batch, 2) points as a scatter plot."""
    return image_grid(picture, columns=8) if picture.ndim == 4 else scatter(picture)


def save_sample_grid(pictures: dict[str, Tensor], output_dir: Path, step: int) -> None:
    """Write an objective's pictures, one above the other with their names, to `samples/step-<step>.png`."""
    drawable = {
        name: draw(picture) for name, picture in pictures.items() if picture.ndim == 4 or picture.shape[1] == 2
    }
    if drawable:
        folder = output_dir / "samples"
        folder.mkdir(exist_ok=True)
        with replacing(folder / f"step-{step}.png") as temporary:
            stack_pictures(drawable).save(temporary)


def save_arguments(output_dir: Path, family: Family, command: str | None, options: dict[str, Any]) -> None:
    """Write `training_args.json`: the options without the access token, and the command that repeats them, if any."""
    arguments = {name: value for name, value in options.items() if name != "hub_token"}
    content = {"family": family.name, **({} if command is None else {"command": command}), "arguments": arguments}
    with replacing(output_dir / "training_args.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")


def save_model(run: Run) -> None:
    """Write the pipeline and the networks only training needs; without a pipeline the only network, or all of them."""
    networks = run.inference_networks()
    pipeline = run.objective.pipeline(networks)
    if pipeline is not None:
        pipeline.save_pretrained(run.output_dir)
    elif len(networks) == 1:
        (network,) = networks.values()
        network.save_pretrained(str(run.output_dir))
        return
    for name, network in networks.items():
        if pipeline is None or name not in pipeline.components:
            network.save_pretrained(str(run.output_dir / "training_networks" / name))


def save_results(run: Run, family: Family, results: dict[str, dict[str, float]]) -> None:
    """Write `metrics.json`, `losses.png` and the card beside the model (the main process).

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    warning = run.lasting_warning()
    with checkpointing.writing("figures and card", run.output_dir):
        metrics = {
            "family": family.name,
            "step": run.step,
            "seconds": round(run.seconds, 1),
            **results,
            **({"warnings": [warning]} if warning is not None else {}),
            "environment": environment(run.accelerator),
        }
        with replacing(run.output_dir / "metrics.json") as temporary:
            temporary.write_text(json.dumps(metrics, indent=2), encoding="utf-8")
        curves = {_curve_name(name): points for name, points in run.history.items() if not is_gradient_norm(name)}
        if run.step > 1:  # one step makes no curve
            with replacing(run.output_dir / "losses.png") as temporary:
                line_chart(curves, title=family.title).save(temporary)
        write_card(run.output_dir)


def _curve_name(name: str) -> str:
    kind, _, rest = name.partition("/")
    return f"validation {rest}" if kind == "validation" else f"train {name}"


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """What a figure depends on besides the options."""
    device = accelerator.device
    return {
        "hf_genmodels": hf_genmodels.__version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
    }


def push(run: Run) -> str:
    """Publish the output folder as `--push_to_hub` and its options say; returns the URL."""
    args = run.args
    return publish(
        run.output_dir, args.hub_model_id or run.output_dir.name, private=args.hub_private_repo, token=args.hub_token
    )


def networks_named(networks: dict[str, ModelMixin]) -> str:
    """Names and sizes, such as "vae 0.7 M", for the first line of a run."""
    return ", ".join(
        f"{name} {sum(p.numel() for p in network.parameters()) / 1e6:.2g} M" for name, network in networks.items()
    )
