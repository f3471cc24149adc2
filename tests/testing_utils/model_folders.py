"""Folders like those that training leaves behind, made by hand: real safetensors, no network behind them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import full

from hf_genmodels.families import FAMILIES

SECRET = "hf_SecretOfTheUser"
COMMAND = "accelerate launch training/train_vae.py --dataset_name user/digits --output_dir runs/digits"
METRICS: dict[str, Any] = {
    "family": "vae",
    "step": 500,
    "seconds": 12.3,
    "train": {"loss": 30.25},
    "validation": {"loss": 31.125, "kl": float("nan")},
    "environment": {"torch": "2.13.0", "device": "cpu", "threads": 2},
    "evaluation": [
        {
            "name": "FID",
            "value": 12.5,
            "settings": {"extractor": "digits-classifier", "weights_sha256": "ab" * 32, "resize": None}
            | {"num_samples": 5000, "seed": 3, "dataset": "user/digits", "split": "test"},
        }
    ],
}
TRAINING = {
    "family": "vae",
    "command": f"{COMMAND} --hub_token {SECRET}",
    "arguments": {"dataset_name": "user/digits", "train_split": "train", "hub_token": SECRET, "beta": 4.0},
}
PUBLISHED = {
    "README.md",
    "model_index.json",
    "metrics.json",
    "training_args.json",
    "losses.png",
    "samples/step-500.png",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "training_networks/critic/config.json",
    "training_networks/critic/diffusion_pytorch_model.safetensors",
}
LOADED = {"model_index.json", "metrics.json", "training_args.json", "vae/config.json"} | {
    "vae/diffusion_pytorch_model.safetensors"
}


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_network(folder: Path, class_name: str, value: float = 0.0, **config: Any) -> None:
    write_json(folder / "config.json", {"_class_name": class_name, **config})
    save_file({"weight": full((3,), value)}, folder / "diffusion_pytorch_model.safetensors")


def write_model(folder: Path, family: str = "vae", value: float = 0.0) -> Path:
    """What `save_pretrained` leaves of a family, and which one it is where the pipeline does not tell."""
    pipeline = FAMILIES[family].pipeline
    if pipeline is None:
        write_network(folder, "Classifier", value)
        write_json(folder / "training_args.json", {"family": family})
    else:
        write_json(folder / "model_index.json", {"_class_name": pipeline, family: ["hf_genmodels", "Network"]})
        write_network(folder / family, "Network", value, latent_dim=2, likelihood=None)
        if [other.pipeline for other in FAMILIES.values()].count(pipeline) > 1:
            write_json(folder / "training_args.json", {"family": family})
    return folder


def write_trained_model(folder: Path) -> Path:
    """A whole training output folder, with all that must stay at home."""
    write_model(folder)
    write_json(folder / "metrics.json", METRICS)
    write_json(folder / "training_args.json", TRAINING)
    write_network(folder / "training_networks" / "critic", "Critic")
    private = ("checkpoint-5/optimizer.bin", "checkpoint-5/vae/config.json", "logs/events.json", "vae/pickle.bin")
    pictures = ("losses.png", "samples/step-5.png", "samples/step-500.png", "samples/notes.txt")
    others = ("vae/model.py", "vae/model.pt", "training_networks/critic/critic.pkl", "weights.pt", ".cache/x.json")
    for name in (*private, *pictures, *others):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder
