"""What a run leaves behind beside its checkpoints: pictures, the model, its figures and its card."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from diffusers import ModelMixin
from PIL import Image
from torch import Tensor

import hf_genmodels
from hf_genmodels.families import Family
from hf_genmodels.files import filling, replacing
from hf_genmodels.hub import publish, write_card
from hf_genmodels.plots import image_grid, line_chart, scatter, stack_pictures

from . import checkpointing
from .health import DATA_WAIT, is_diagnostic
from .output_folder import OPTIONS

if TYPE_CHECKING:
    from .run import Run


def draw(picture: Tensor) -> Image.Image:
    """(batch, channels, height, width) in [0, 1] as a grid, (batch, 2) points as a scatter plot."""
    return image_grid(picture, columns=8) if picture.ndim == 4 else scatter(picture)


def save_sample_grid(pictures: dict[str, Tensor], output_dir: Path, step: int, kind: str = "step") -> None:
    """Write an objective's pictures, one above the other with their names, to `samples/<kind>-<step>.png`."""
    drawable = {
        name: draw(picture) for name, picture in pictures.items() if picture.ndim == 4 or picture.shape[1] == 2
    }
    if drawable:
        folder = output_dir / "samples"
        folder.mkdir(exist_ok=True)
        with replacing(folder / f"{kind}-{step}.png") as temporary:
            stack_pictures(drawable).save(temporary)


def save_arguments(output_dir: Path, family: Family, command: str | None, options: dict[str, Any]) -> None:
    """Write `training_args.json`: the options without the access token, and the command that repeats them, if any."""
    arguments = {name: value for name, value in options.items() if name != "hub_token"}
    content = {"family": family.name, **({} if command is None else {"command": command}), "arguments": arguments}
    with replacing(output_dir / OPTIONS) as temporary:
        temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")


def save_model(run: Run) -> None:
    """Write the pipeline and the networks only training needs; without a pipeline the only network, or all of them."""
    networks = run.inference_networks()
    pipeline = run.objective.pipeline(networks)
    if pipeline is not None:
        pipeline.save_pretrained(run.output_dir)
    elif len(networks) == 1:
        (network,) = networks.values()
        save_network(network, run.output_dir)
        return
    for name, network in networks.items():
        if pipeline is None or name not in pipeline.components:
            save_network(network, run.output_dir / "training_networks" / name)


def save_network(network: ModelMixin, folder: Path) -> None:
    """Write a network; a failure leaves the folder as it was."""
    with filling(folder) as temporary:
        network.save_pretrained(str(temporary))


def save_results(run: Run, family: Family, results: dict[str, dict[str, float]]) -> None:
    """Write `metrics.json`, `losses.png` and the card beside the model (the main process).

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    warning = run.lasting_warning()
    waits = [share for _, share in run.history.get(DATA_WAIT, ())]
    with checkpointing.writing("figures and card", run.output_dir):
        metrics = {
            "family": family.name,
            "step": run.step,
            "seconds": round(run.seconds, 1),
            **({DATA_WAIT: round(mean(waits), 3)} if waits else {}),
            **results,
            **({} if (chosen := run.chosen()) is None else {"best": chosen}),
            **({"warnings": [warning]} if warning is not None else {}),
            "environment": {**environment(run.accelerator), **run.environment()},
        }
        with replacing(run.output_dir / "metrics.json") as temporary:
            temporary.write_text(json.dumps(metrics, indent=2), encoding="utf-8")
        curves = {_curve_name(name): points for name, points in run.history.items() if not is_diagnostic(name)}
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
