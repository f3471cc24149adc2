"""What the tests of EDM, flow matching and score models share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor

from hf_genmodels import VAE, Noise, UserError, VAEPipeline
from hf_genmodels.objectives.denoising import DenoisingObjective
from tests.testing_utils.pipelines import PipelineTesterMixin, SamplingTesterMixin

SMALL: dict[str, Any] = {"block_out_channels": [8], "layers_per_block": 1}


def told_labels(noise: Noise, batch: dict[str, Tensor]) -> Tensor:
    """The classes that a network is told, at the default `label_dropout`, of three."""
    is_dropped = noise.uniform((len(batch["image"]),), like=batch["image"]) < 0.1
    return torch.where(is_dropped, 3, batch["label"])


def check_gradients(objective: DenoisingObjective, loss: Tensor, slow: Tensor) -> None:
    """Two losses have the same gradients."""
    parameters = list(objective.networks["unet"].parameters())
    both = [torch.autograd.grad(each, parameters, allow_unused=True) for each in (loss, slow)]
    for ours, theirs in zip(*both, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def saved_vae(folder: Path) -> str:
    """The folder of a VAE that has learnt nothing."""
    torch.manual_seed(0)
    VAEPipeline(VAE(1, 8, latent_dim=3, block_out_channels=(4, 8)), value_scale=16.0).save_pretrained(folder / "vae")
    return str(folder / "vae")


class AnsweringUNet(UNet2DModel):
    """Stands for a network that knows the data; `answer` takes what the network does."""

    def __init__(self, answer: Any) -> None:
        blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "norm_num_groups": 1}
        super().__init__(1, 2, 2, block_out_channels=(4,), add_attention=False, **blocks)
        self.answer = answer

    def forward(self, sample: Any, timestep: Any, class_labels: Any = None, return_dict: bool = True) -> Any:
        return (self.answer(sample.double(), timestep.double()).float(),)


class NoiseLevelTesterMixin(PipelineTesterMixin, SamplingTesterMixin):
    """What pipelines of noise levels must do beside; `others` are further samplers with their options."""

    others: ClassVar[dict[type, dict[str, Any]]] = {}

    def sample(self, pipeline, seeds=None, generators=None, **options):
        generators = generators if seeds is None else [torch.Generator().manual_seed(seed) for seed in seeds]
        return pipeline(generator=generators, output_type="pt", **options).images

    def test_samplers_are_swapped_and_saved_and_others_are_refused(self, tmp_path):
        pipeline = self.tiny()
        usual = self.sample(pipeline, [0, 1], batch_size=2)
        for sampler, options in self.others.items():
            pipeline.scheduler = sampler.from_config(pipeline.scheduler.config, **options)
            images = self.sample(pipeline, [0, 1], batch_size=2)
            assert images.isfinite().all() and not torch.equal(images, usual)
            pipeline.save_pretrained(tmp_path / sampler.__name__)
            loaded = self.pipeline_class.from_pretrained(tmp_path / sampler.__name__)
            loaded.set_progress_bar_config(disable=True)
            assert torch.equal(self.sample(loaded, [0, 1], batch_size=2), images)
        pipeline.scheduler = DDPMScheduler()
        with pytest.raises(UserError, match="a DDPMScheduler is for models of another training; a "):
            pipeline()
        with pytest.raises(UserError, match="guidance_scale: the model was trained without classes"):
            self.tiny()(guidance_scale=2.0)
