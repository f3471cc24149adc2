"""Interrupted runs of every family with training steps end with the weights of whole ones, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_genmodels.training.entry import train
from tests.testing_utils.training import (
    dice,
    interrupted,
    kill_after_checkpoints,
    largest_difference,
    options,
    same_bytes,
    script,
)

SHORT: dict[str, Any] = {
    "block_out_channels": None,
    "norm": None,
    "max_train_steps": 4,
    "checkpointing_steps": 2,
    "train_batch_size": 8,
    "max_train_samples": 64,
    "eval_batch_size": 1000,
    "log_steps": 1,
    "use_ema": True,
}
TOY: dict[str, Any] = {"dataset_name": "builtin:toy2d", "hidden_dims": 8}
TOY_MLP = TOY | {"architecture": "mlp"}
# 16 pixels: the first size with batch norm in encoders and discriminators, whose running averages are saved too
DIGITS: dict[str, Any] = {"resolution": 16, "width": 2}
GLOW: dict[str, Any] = {"num_flow_steps": 1, "num_scales": 1, "hidden_channels": 4, "latent_dim": None}
UNET: dict[str, Any] = {"block_out_channels": (8, 8), "layers_per_block": 1, "ddpm_num_steps": 25}
UNET |= {"ddpm_num_inference_steps": 2, "latent_dim": None}
TRANSLATOR: dict[str, Any] = {"dataset_name": "builtin:edges", "resolution": 8, "width": 2, "discriminator_width": 2}
TRANSLATOR |= {"receptive_field": 16, "latent_dim": None, "random_flip": True}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gan": ("gan", DIGITS | {"lr_scheduler": "cosine", "random_flip": True}),
    "spectral": ("gan", DIGITS | {"discriminator_norm": "spectral", "gan_loss": "hinge", "critic_updates": 3}),
    "packs": ("gan", TOY_MLP | {"gan_loss": "wasserstein", "gradient_penalty": "wgan_gp", "packing": 2}),
    "accumulated": ("gan", TOY_MLP | {"gradient_penalty": "r1", "gradient_accumulation_steps": 2}),
    "shared": ("gan", DIGITS | {"share_fakes": True, "gradient_accumulation_steps": 2}),
    "classes": ("gan", DIGITS | {"conditioning": "projection", "gradient_penalty": "r2"}),
    "began": ("began", TOY | {"lambda_k": 0.3}),
    "tempered_gan": ("tempered_gan", DIGITS | {"lens_steps": 3, "lens_width": 2}),
    "avae": ("avae", DIGITS | {"latent_warmup_steps": 1}),
    "bigan": ("bigan", DIGITS),
    "vaegan": ("vaegan", DIGITS | {"log_steps": 3}),
    "aae": ("aae", DIGITS | {"latent_hidden_dims": 8, "prior": "mixture"}),
    "realnvp": ("flow", TOY | {"latent_dim": None, "max_grad_norm": 5}),
    "glow": ("flow", GLOW | {"lr_scheduler": "cosine"}),
    "classes of glow": ("flow", GLOW | {"class_conditional": True, "gradient_accumulation_steps": 2}),
    "ddpm": ("ddpm", UNET | {"dropout": 0.1, "random_flip": True}),
    "pix2pix": ("pix2pix", TRANSLATOR | {"num_downs": 2}),
    "cyclegan": ("cyclegan", TRANSLATOR | {"num_blocks": 1, "pool_size": 2, "gradient_accumulation_steps": 2}),
    "polarimetric": (
        "polarimetric",
        TRANSLATOR | {"num_blocks": 1, "dataset_name": "builtin:polarimetric", "dataset_config_name": "32"},
    ),
    "pixelwise": ("pixelwise", {"width": 2, "num_residual_blocks": 1, "latent_dim": None}),
    "classes of ddpm": ("ddpm", UNET | {"class_conditional": True, "snr_gamma": 5}),
}


def history(output_dir: Path) -> Any:
    """Figures at the end of a run, without what depends on the clock."""
    metrics = json.loads((output_dir / "metrics.json").read_text())
    return metrics["step"], metrics["train"], metrics["validation"]


def networks_of(folder: Path) -> list[Path]:
    """Folders of all saved networks below `folder`, relative to it."""
    return sorted(file.parent.relative_to(folder) for file in folder.rglob("diffusion_pytorch_model.safetensors"))


def assert_same_run(whole: Path, other: Path, step: int) -> None:
    """Networks, averages and the objective's state of the last checkpoint, the model, the figures."""
    last = f"checkpoint-{step}"
    for part in (".", last):
        names = [name for name in networks_of(whole / part) if part != "." or "checkpoint" not in str(name)]
        assert names == [name for name in networks_of(other / part) if part != "." or "checkpoint" not in str(name)]
        assert names
        for name in names:
            assert same_bytes(whole / part / name, other / part / name), name
    own = [torch.load(run / last / "process-0.pt", weights_only=True)["objective"] for run in (whole, other)]
    torch.testing.assert_close(*own, rtol=0, atol=0)
    states = [torch.load(run / last / "state.pt", weights_only=True) for run in (whole, other)]
    assert states[0]["consumed"] == states[1]["consumed"]
    assert states[0]["history"] == states[1]["history"]
    assert history(whole) == history(other)


@pytest.mark.parametrize("case", CASES)
def test_resuming_is_exact(tmp_path: Path, case: str) -> None:
    family, changes = CASES[case]
    changes = {**SHORT, **changes}
    whole = tmp_path / "whole"
    train(family, options(whole, **changes))
    resumed = interrupted(whole, 2, tmp_path / "resumed")
    train(family, options(resumed, **changes, resume_from_checkpoint="latest"))
    assert_same_run(whole, resumed, 4)
    for name in networks_of(whole / "checkpoint-4" / "networks"):
        steps = [whole / f"checkpoint-{step}" / "networks" / name for step in (2, 4)]
        assert largest_difference(*steps) > 1e-3, name


def test_kill_9_at_a_random_moment(tmp_path: Path) -> None:
    """Of a family with two phases and state of its own, which moves with every update."""
    family, changes = CASES["began"]
    changes = {**SHORT, **changes, "max_train_steps": 160, "checkpointing_steps": 4, "lr_scheduler": "cosine"}
    train(family, options(tmp_path / "whole", **changes))
    killed = options(tmp_path / "killed", **changes, resume_from_checkpoint="latest")
    random = dice("kill -9")
    more, seconds = random.randint(1, 15), random.uniform(0, 0.1)
    kill_after_checkpoints(script(family, killed), tmp_path / "killed", more, seconds)
    assert not (tmp_path / "killed" / "model_index.json").exists()
    train(family, killed)
    assert_same_run(tmp_path / "whole", tmp_path / "killed", 160)
