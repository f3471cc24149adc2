"""Short runs of objectives, by one process or by each of several: `main` is what those launch."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from hf_genmodels import VAE, DCGANDiscriminator, MLPGenerator
from hf_genmodels.data import DataArguments, DataSpec, LoadedData, load_data
from hf_genmodels.families import get_family
from hf_genmodels.objectives.base import Objective
from hf_genmodels.objectives.closed_form import ClosedFormObjective
from hf_genmodels.objectives.ddpm import DDPMArguments, DDPMObjective
from hf_genmodels.objectives.denoisers import build_scheduler, build_unet
from hf_genmodels.objectives.gan import GANArguments, GANObjective
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.closed_form import ClosedFormFit
from hf_genmodels.training.entry import let_collectives_end
from hf_genmodels.training.loop import TrainingLoop

GLOBAL_BATCH = 16
STEPS = 10
MLP: dict[str, Any] = {"architecture": "mlp", "hidden_dims": [16], "latent_dim": 2}


class InFloat64:
    """A data set whose images have another precision."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def collate(self, work: Any) -> dict[str, torch.Tensor]:
        batch = self.dataset.collate(work)
        return {name: values.double() if values.is_floating_point() else values for name, values in batch.items()}


@dataclass(frozen=True)
class Case:
    """A family with options; none of the networks has batch norm, whose statistics are each process's own."""

    family: str
    options: dict[str, Any]
    dataset_name: str = "builtin:toy2d"
    build: Callable[[DataSpec], Objective] | None = None
    resolution: int | None = None
    # Instance norms make networks blind to the scale of their weights, and rounding grows tenfold in a step or two.
    float64: bool = False

    def data(self) -> LoadedData:
        """96 training examples."""
        args = DataArguments(dataset_name=self.dataset_name, max_train_samples=96, resolution=self.resolution)
        objective_class = get_family(self.family).load_objective()
        data = load_data(args, 0, objective_class.layout(objective_class.Arguments(**self.options)))
        if not self.float64:
            return data
        return dataclasses.replace(data, train=InFloat64(data.train), validation=None)

    def objective(self, data: DataSpec) -> Objective:
        """The objective with the weights of seed 0."""
        torch.manual_seed(0)
        if self.build is not None:
            return self.build(data)
        objective_class = get_family(self.family).load_objective()
        objective = objective_class.from_args(objective_class.Arguments(**self.options), data)
        for network in objective.networks.values() if self.float64 else ():
            network.double()
        return objective


def spectral(data: DataSpec) -> Objective:
    """Spectral norm needs convolutions, whose generator has batch norm: here a dense one takes its place."""
    generator = MLPGenerator(2, data.channels, data.size, hidden_dims=(16,))
    discriminator = DCGANDiscriminator(data.channels, data.size or 0, width=4, norm="spectral")
    networks = {"generator": generator, "discriminator": discriminator}
    return GANObjective(networks, data, GANArguments(latent_dim=2, gan_loss="hinge", critic_updates=2))


UNET: dict[str, Any] = {"block_out_channels": [8, 8], "layers_per_block": 1, "ddpm_num_steps": 25}


def latent(data: DataSpec) -> Objective:
    """Diffusion in the latents of a VAE that has learnt nothing."""
    vae = VAE(data.channels, data.size, latent_dim=2, architecture="mlp", hidden_dims=(8,))
    args = DDPMArguments(**UNET | {"block_out_channels": [8]})
    unet = build_unet(args, (2,), None, data.name)
    return DDPMObjective(unet, build_scheduler(args, is_image=False), data, args, vae)


TRANSLATOR: dict[str, Any] = {"width": 2, "discriminator_width": 2, "receptive_field": 16, "norm": "instance"}
RESNET: dict[str, Any] = {"num_blocks": 1}
EDGES: dict[str, Any] = {"dataset_name": "builtin:edges", "resolution": 8, "float64": True}
GLOW: dict[str, Any] = {"num_flow_steps": 2, "num_scales": 1, "hidden_channels": 4}
CASES = {
    "wgan_gp": Case("gan", MLP | {"gan_loss": "wasserstein", "gradient_penalty": "wgan_gp", "critic_updates": 5}),
    "packs": Case("gan", MLP | {"gan_loss": "hinge", "gradient_penalty": "zero_centred", "packing": 2}),
    "r1": Case("gan", MLP | {"gradient_penalty": "r1"}),
    "roth": Case("gan", MLP | {"gan_loss": "minimax", "gradient_penalty": "roth"}),
    "shared": Case("gan", MLP | {"gradient_penalty": "r2", "share_fakes": True}),
    "clipped": Case("gan", MLP | {"gan_loss": "wasserstein", "weight_clip": 0.05, "critic_updates": 2}),
    "classes": Case("gan", MLP | {"conditioning": "cgan", "gan_loss": "least_squares"}, "builtin:digits"),
    "spectral": Case("gan", {}, "builtin:digits", spectral),
    "avae": Case("avae", MLP | {"latent_warmup_steps": 4}),
    "bigan": Case("bigan", MLP),
    "vaegan": Case("vaegan", MLP),
    "began": Case("began", {"hidden_dims": [16], "latent_dim": 2, "lambda_k": 0.3}),
    "tempered_gan": Case("tempered_gan", MLP | {"lens_steps": 6}),
    "aae": Case("aae", MLP | {"latent_hidden_dims": [8]}),
    "realnvp": Case("flow", {"num_flow_steps": 4, "hidden_dims": [8]}),
    "planar": Case("flow", {"architecture": "planar", "num_flow_steps": 2}),
    "glow": Case("flow", GLOW | {"class_conditional": True}, "builtin:digits"),
    "ddpm": Case("ddpm", UNET | {"class_conditional": True, "snr_gamma": 5.0}, "builtin:digits"),
    "gaussian": Case("gaussian", {"num_components": 3}, "builtin:digits"),
    "gaussian_mixture": Case("gaussian_mixture", {"num_components": 3, "covariance_type": "diag"}, "builtin:digits"),
    "texture": Case("texture", {}, "builtin:digits"),
    "latent": Case("ddpm", {}, "builtin:digits", latent),
    "pix2pix": Case("pix2pix", TRANSLATOR | {"dropout": 0.0, "num_downs": 2}, **EDGES),
    "cyclegan": Case("cyclegan", TRANSLATOR | RESNET | {"pool_size": 3}, **EDGES),
    "polarimetric": Case(
        "polarimetric",
        TRANSLATOR | RESNET | {"pool_size": 0, "paired_weight": 1.0, "cone_weight": 0.01},
        **EDGES | {"dataset_name": "builtin:polarimetric"},
    ),
    "pixelwise": Case(
        "pixelwise",
        {"width": 2, "num_residual_blocks": 1, "known_pixels": 0.05, "discriminator_norm": "instance"},
        "builtin:digits",
        float64=True,
    ),
}


CLOSED_FORM = ("gaussian", "gaussian_mixture", "texture")


def train(case: Case, folder: Path) -> None:
    """Ten steps on global batches of 16; the main process leaves networks, `losses.pt` and `state.pt` in `folder`."""
    accelerator = Accelerator()
    data = case.data()
    args = TrainingArguments(
        output_dir=str(folder),
        train_batch_size=GLOBAL_BATCH // accelerator.num_processes,
        max_train_steps=STEPS,
        learning_rate=0.002,
        log_steps=5,
        checkpointing_steps=0,
    )
    objective = case.objective(data.spec)
    loop_class = ClosedFormFit if isinstance(objective, ClosedFormObjective) else TrainingLoop
    loop = loop_class(objective, data, args, accelerator)
    loop.prepare(None)
    loop.train_until(STEPS)
    if accelerator.is_main_process:
        folder.mkdir(parents=True)
        for name, network in loop.networks.items():
            network.save_pretrained(str(folder / name))
        torch.save(loop.history, folder / "losses.pt")
        torch.save(loop.objective.state_dict(), folder / "state.pt")


def main(folder: Path) -> None:
    """Run all cases, each in a folder of its own."""
    torch.set_num_threads(1)
    for name, case in CASES.items():
        train(case, folder / name)
    accelerator = Accelerator()
    accelerator.wait_for_everyone()
    let_collectives_end(accelerator)
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
