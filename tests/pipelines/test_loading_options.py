"""What `from_pretrained` may be told of types and devices, and what it says of entries that it ignores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from hf_genmodels import AutoPipeline, DDPMPipeline, LatentDDPMPipeline, VAEPipeline
from tests.families import TINY
from tests.testing_utils.pipelines import draw, networks, random_images, tiny_pipeline
from tests.testing_utils.refusals import refused

HALF, BRAIN, SINGLE, DOUBLE = torch.float16, torch.bfloat16, torch.float32, torch.float64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE saved in half precision and a denoising network saved in single."""
    path = tmp_path_factory.mktemp("latent")
    pipeline = tiny_pipeline("LatentDDPMPipeline")
    pipeline.vae.to(HALF)
    pipeline.save_pretrained(path)
    return path


def add_entry(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize(
    ("dtype", "vae", "unet"),
    [
        (None, SINGLE, SINGLE),
        (HALF, HALF, HALF),
        (DOUBLE, DOUBLE, DOUBLE),
        ("float16", HALF, HALF),
        ("bfloat16", BRAIN, BRAIN),
        ("auto", HALF, SINGLE),
        ({"unet": BRAIN, "default": HALF}, HALF, BRAIN),
        ({"unet": "float16"}, SINGLE, HALF),
        ({"default": "auto", "unet": "bfloat16"}, HALF, BRAIN),
        ({"scheduler": HALF}, SINGLE, SINGLE),
        ({}, SINGLE, SINGLE),
    ],
)
@pytest.mark.parametrize("option", ["dtype", "torch_dtype"])
def test_types_of_weights(dtype, vae, unet, option, folder):
    for pipeline in (LatentDDPMPipeline, AutoPipeline):
        loaded = pipeline.from_pretrained(folder, **{option: dtype})
        for network, expected in ((loaded.vae, vae), (loaded.unet, unet)):
            assert {parameter.dtype for parameter in network.parameters()} == {expected}


@pytest.mark.parametrize("shards", [None, 500])
def test_auto_is_the_widest_of_the_saved_types(shards, tmp_path):
    pipeline = tiny_pipeline("VAEPipeline")
    pipeline.vae.to(HALF)
    pipeline.save_pretrained(tmp_path, max_shard_size=shards)
    assert VAEPipeline.from_pretrained(tmp_path, dtype="auto").dtype == HALF
    pipeline.vae.posterior.to(SINGLE)
    pipeline.save_pretrained(tmp_path, max_shard_size=shards, variant="mixed")
    assert VAEPipeline.from_pretrained(tmp_path, dtype="auto", variant="mixed").dtype == SINGLE
    assert VAEPipeline.from_pretrained(tmp_path, dtype="auto").dtype == HALF


@pytest.mark.parametrize("dtype", ["half", "float8", "int8", torch.int8, 16, ["float16"], {"unet": "half"}])
def test_impossible_types(dtype, folder):
    with refused("dtype must be torch.float32, torch.float16, torch.bfloat16, torch.float64, one of these as a word"):
        AutoPipeline.from_pretrained(folder, dtype=dtype)


def test_types_of_components_that_are_not_there(folder):
    message = "LatentDDPMPipeline has no component 'text_encoder'; it has vae, unet, scheduler, and 'default' stands"
    with refused(message):
        AutoPipeline.from_pretrained(folder, dtype={"text_encoder": HALF})


@pytest.mark.parametrize("device", ["cpu", "meta", torch.device("meta")])
def test_one_device_for_all(device, folder):
    loaded = AutoPipeline.from_pretrained(folder, device_map=device)
    assert {loaded.vae.device, loaded.unet.device} == {torch.device(device)}


@pytest.mark.parametrize("device", ["balanced", "auto", {"unet": "cpu"}, "cuda:99", "gpu", -7])
def test_devices_that_are_not_there(device, folder):
    with refused("device_map must be one device of this machine for all networks"):
        AutoPipeline.from_pretrained(folder, device_map=device)


def test_networks_built_with_weights_of_their_own_are_the_same(folder):
    plain, built = (AutoPipeline.from_pretrained(folder, low_cpu_mem_usage=value) for value in (True, False))
    for name, weight in plain.unet.state_dict().items():
        assert torch.equal(weight, built.unet.state_dict()[name])


def test_entries_that_are_ignored_are_named(tmp_path, caplog):
    tiny_pipeline("DDPMPipeline").save_pretrained(tmp_path)
    DDPMPipeline.from_pretrained(tmp_path)
    assert caplog.messages == []
    add_entry(tmp_path / "unet" / "config.json", latent_dims=3)
    add_entry(tmp_path / "scheduler" / "scheduler_config.json", steps=3)
    add_entry(tmp_path / "model_index.json", safety_checker=["diffusers", "UNet2DModel"], scale=1.0, _private=2)
    DDPMPipeline.from_pretrained(tmp_path)
    pipeline, *parts = caplog.messages
    assert pipeline == f"{tmp_path / 'model_index.json'}: a DDPMPipeline has no safety_checker, scale; ignored"
    for message, entry in zip(parts, ("{'latent_dims': 3}", "{'steps': 3}"), strict=True):
        assert f"The config attributes {entry} were passed" in message


def test_a_pipeline_of_diffusers_that_samples_by_ddim(tmp_path):
    """Ours takes its folder, and makes the same images."""
    ours = tiny_pipeline("DDPMPipeline")
    scheduler = DDIMScheduler(num_train_timesteps=10, clip_sample=False)
    theirs = diffusers.DDIMPipeline(ours.unet, scheduler)
    theirs.set_progress_bar_config(disable=True)
    theirs.save_pretrained(tmp_path)
    expected = theirs(generator=torch.Generator().manual_seed(0), num_inference_steps=3, output_type="np").images
    for pipeline in (AutoPipeline, DDPMPipeline):
        loaded = pipeline.from_pretrained(tmp_path)
        assert type(loaded) is DDPMPipeline and isinstance(loaded.scheduler, DDIMScheduler)
        loaded.set_progress_bar_config(disable=True)
        images = loaded(generator=torch.Generator().manual_seed(0), num_inference_steps=3, output_type="np").images
        assert abs(images - expected).max() < 1e-5
    swapped = AutoPipeline.from_pretrained(tmp_path, scheduler=DDPMScheduler(num_train_timesteps=10))
    assert isinstance(swapped.scheduler, DDPMScheduler)


@pytest.mark.parametrize("name", sorted(TINY))
def test_every_network_may_have_a_type_of_its_own(name: str, tmp_path: Path) -> None:
    saved = tiny_pipeline(name)
    saved.save_pretrained(tmp_path)
    for component in networks(saved):
        pipeline = type(saved).from_pretrained(tmp_path, dtype={component: torch.bfloat16})
        pipeline.set_progress_bar_config(disable=True)
        assert draw(pipeline, output_type="pt").images.isfinite().all()
        if "reconstructions" in pipeline.measures and not isinstance(pipeline, DDPMPipeline):
            pipeline.reconstruct(random_images((1, 8, 8)), output_type="pt")
