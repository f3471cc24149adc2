"""Diffusers' own tests of pipelines (`PipelineTesterMixin`), run against pipelines of ours.

    python benchmarks/diffusers_tests.py FOLDER/tests/pipelines/test_pipelines_common.py [--verbose]

The file is that of a checkout of diffusers (github.com/huggingface/diffusers), beside `tests/testing_utils.py`. It is
read as it stands but for one thing: `safe_serialization=False` is left out of it, since nothing but safetensors
is ever written here. Tests of offloading need an accelerator and are skipped without one.

`EXPECTED` says which tests cannot pass, and why; the exit status is 1 if another one fails, or if one of these passes.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import sys
import types
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.utils import logging

from hf_genmodels import (
    VAE,
    DCGANGenerator,
    DDPMPipeline,
    FlowPipeline,
    GANPipeline,
    GaussianMixtureModel,
    GaussianMixturePipeline,
    GenerativePipeline,
    LatentDDPMPipeline,
    Pix2PixPipeline,
    RealNVP,
    UNetTranslator,
    VAEPipeline,
)

SAMPLING = ("batch_size", "generator", "latents", "output_type", "return_dict")
DENOISING = {"num_inference_steps": 2}


@dataclass(frozen=True)
class Case:
    """A pipeline and how to call it.

    Attributes:
        pipeline: Its class.
        components: The smallest networks.
        inputs: Of a call, beside a generator and `output_type`.
        optional: Parameters of a call that must be there and have a default.
    """

    pipeline: type[GenerativePipeline]
    components: Callable[[], dict[str, Any]]
    inputs: Callable[[], dict[str, Any]] = lambda: {"batch_size": 1}
    optional: tuple[str, ...] = SAMPLING


def unet(channels: int, size: int, num_class_embeds: int | None = None) -> dict[str, Any]:
    network = UNet2DModel(
        size,
        channels,
        channels,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=False,
        num_class_embeds=num_class_embeds,
    )
    return {"unet": network, "scheduler": DDPMScheduler(num_train_timesteps=10)}


def vae() -> VAE:
    return VAE(1, 8, latent_dim=2, block_out_channels=(4, 8))


CASES = (
    Case(VAEPipeline, lambda: {"vae": vae()}),
    Case(GANPipeline, lambda: {"generator": DCGANGenerator(2, 3, 8, width=4)}),
    Case(FlowPipeline, lambda: {"flow": RealNVP(1, 8, num_levels=256)}),
    Case(
        DDPMPipeline,
        lambda: unet(3, 8),
        lambda: {"batch_size": 1, **DENOISING},
        (*SAMPLING, "num_inference_steps"),
    ),
    Case(
        LatentDDPMPipeline,
        lambda: {"vae": vae(), **unet(2, 1, num_class_embeds=4)},
        lambda: {"batch_size": 1, **DENOISING},
        (*SAMPLING, "num_inference_steps"),
    ),
    Case(
        Pix2PixPipeline,
        lambda: {"generator": UNetTranslator(3, 3, 8, width=4, num_downs=3)},
        lambda: {"image": torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))},
        ("generator", "output_type", "return_dict"),
    ),
    Case(GaussianMixturePipeline, lambda: {"mixture": GaussianMixtureModel(1, 8, num_components=2, num_levels=256)}),
)

ALL = tuple(case.pipeline.__name__ for case in CASES)
ITERATIVE = ("DDPMPipeline", "LatentDDPMPipeline")
EXPECTED: dict[str, tuple[tuple[str, ...], str]] = {
    "test_save_load_local": (
        ALL,
        "looks for the names of components in what diffusers' own loader logs; ours says nothing of what goes well",
    ),
    "test_loading_with_incorrect_variants_raises_error": (
        ALL,
        "looks for diffusers' words; ours names the file of the variant that is missing",
    ),
    "test_callback_inputs": (
        ITERATIVE,
        'asks for output_type="latent": what is denoised comes as images or not at all',
    ),
    "test_cfg": (("DDPMPipeline",), "gives guidance_scale to a network without classes, which is refused"),
    "test_callback_cfg": (
        ITERATIVE,
        "changes the pipeline's `_guidance_scale` between steps; ours is an argument, and callbacks change tensors",
    ),
}


class WithoutPickles(SourceFileLoader):
    """Reads a test file without the option that would write pickles."""

    def get_data(self, path: str) -> bytes:
        data = super().get_data(path)
        return data.replace(b", safe_serialization=False", b"") if path == self.path else data

    def path_stats(self, path: str) -> Any:
        raise OSError  # no compiled file beside it, neither read nor written


class OfOtherModels:
    """Finds empty modules for what the file imports from the tests of diffusers' own models."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.startswith("tests.models") else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: None  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def read_mixin(path: Path) -> tuple[type, str]:
    """`PipelineTesterMixin` of the file, and the device that it tests on."""
    sys.path.insert(0, str(path.parents[2]))
    sys.meta_path.insert(0, OfOtherModels())  # type: ignore[arg-type]
    name = "tests.pipelines.test_pipelines_common"
    spec = importlib.util.spec_from_loader(name, WithoutPickles(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    mixin: type = module.PipelineTesterMixin
    return mixin, module.torch_device


def test_class(case: Case, mixin: type) -> type[unittest.TestCase]:
    def components(self: Any) -> dict[str, Any]:
        torch.manual_seed(0)
        made = case.components()
        for part in made.values():
            if isinstance(part, torch.nn.Module):
                part.eval()  # as `from_pretrained` gives them
        return made

    def inputs(self: Any, device: str, seed: int = 0) -> dict[str, Any]:
        return {"generator": torch.Generator(device).manual_seed(seed), "output_type": "np", **case.inputs()}

    def single_identical(self: Any) -> None:
        self._test_inference_batch_single_identical(
            batch_size=3,
            additional_params_copy_to_batched_inputs=[name for name in DENOISING if name in case.inputs()],
        )

    members = {
        "pipeline_class": case.pipeline,
        "params": frozenset(case.inputs()),
        "batch_params": frozenset({"image"} & case.inputs().keys()),
        "required_optional_params": frozenset(case.optional),
        "test_attention_slicing": False,
        "get_dummy_components": components,
        "get_dummy_inputs": inputs,
        "test_inference_batch_single_identical": single_identical,
    }
    return type(case.pipeline.__name__, (mixin, unittest.TestCase), members)


def outcomes(case: Case, mixin: type, verbose: bool) -> dict[str, str]:
    """Name of each test -> "passed", "skipped", or what was raised."""
    tests = test_class(case, mixin)
    for name in unittest.defaultTestLoader.getTestCaseNames(tests):
        marks = getattr(getattr(tests, name), "pytestmark", [])
        if any(mark.name == "skipif" and mark.args[0] for mark in marks):  # a word for pytest, which unittest ignores
            setattr(tests, name, unittest.skip("on this device")(getattr(mixin, name)))
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(tests)
    found = {test.id().rpartition(".")[2]: "passed" for test in suite}  # type: ignore[union-attr]
    result = unittest.TextTestRunner(stream=io.StringIO(), verbosity=0).run(suite)
    for test, _ in result.skipped:
        found[test.id().rpartition(".")[2]] = "skipped"
    for test, trace in (*result.failures, *result.errors):
        if verbose:
            print(trace)
        found[test.id().rpartition(".")[2]] = trace.strip().splitlines()[-1]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="tests/pipelines/test_pipelines_common.py of diffusers")
    parser.add_argument("--verbose", action="store_true", help="print every traceback")
    options = parser.parse_args()
    logging.disable_progress_bar()
    mixin, device = read_mixin(options.path.resolve())
    wrong = []
    print(f"| Pipeline ({device}) | Passed | Skipped | Fails with a reason |\n|--|--|--|--|")
    for case in CASES:
        name = case.pipeline.__name__
        found = outcomes(case, mixin, options.verbose)
        failed = {test: said for test, said in found.items() if said not in ("passed", "skipped")}
        expected = {test for test, (pipelines, _) in EXPECTED.items() if name in pipelines}
        wrong += [f"{name}.{test}: {said}" for test, said in failed.items() if test not in expected]
        wrong += [f"{name}.{test} passes, though EXPECTED says that it cannot" for test in expected - failed.keys()]
        counts = [sum(said == word for said in found.values()) for word in ("passed", "skipped")]
        print(f"| `{name}` | {counts[0]} | {counts[1]} | {len(failed)} |")
    print()
    for test, (pipelines, reason) in EXPECTED.items():
        print(f"- `{test}` ({'all' if pipelines == ALL else ', '.join(pipelines)}): {reason}")
    if wrong:
        sys.exit("\n".join(["", *wrong]))


if __name__ == "__main__":
    main()
