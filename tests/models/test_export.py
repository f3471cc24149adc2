"""Networks exported by torch.export and to ONNX: one program for all batches and, of translators, images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim

import hf_genmodels

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch about itself

IMAGE = {"in_channels": 2, "sample_size": 8}
MADE = {"out_channels": 2, "sample_size": 8}
SAMPLE, VECTORS, LATENTS = {"sample": (2, 8, 8)}, {"sample": (5,)}, {"latents": (3,)}
WIDE = {"in_channels": 2, "sample_size": 32}
LABELLED = {"num_classes": 4}
FLOW = {"num_scales": 1, "hidden_channels": 4}

# Network, options, and the shapes of what it is given for each example.
CASES: tuple[tuple[str, dict[str, Any], dict[str, tuple[int, ...]]], ...] = (
    ("Autoencoder", IMAGE | {"latent_dim": 3, "block_out_channels": (4, 8)}, SAMPLE),
    ("Autoencoder", {"in_channels": 5, "sample_size": None, "latent_dim": 3, "architecture": "mlp"}, VECTORS),
    ("Autoencoder", IMAGE | {"latent_dim": 3, "architecture": "linear", "k_sparse": 2, "num_classes": 3}, SAMPLE),
    ("VAE", IMAGE | {"latent_dim": 3, "block_out_channels": (4, 8)}, SAMPLE | {"noise": (3,)}),
    ("VAE", IMAGE | {"latent_dim": 3, "architecture": "mlp"}, SAMPLE | {"noise": (3,)}),
    (
        "VAE",
        IMAGE | {"latent_dim": 3, "block_out_channels": (4,), "likelihood": "categorical", "num_levels": 4},
        SAMPLE | {"noise": (3,)},
    ),
    ("Classifier", IMAGE | {"block_out_channels": (4, 8), "feature_dim": 4}, SAMPLE),
    ("DCGANGenerator", MADE | {"latent_dim": 3, "width": 4}, LATENTS),
    ("DCGANGenerator", MADE | {"latent_dim": 3, "width": 4, "norm_statistics": "batch"}, LATENTS),
    (
        "DCGANGenerator",
        MADE | LABELLED | {"latent_dim": 3, "width": 4, "conditioning": "concat"},
        LATENTS | {"labels": ()},
    ),
    (
        "DCGANGenerator",
        MADE | LABELLED | {"latent_dim": 3, "width": 4, "conditioning": "batch_norm"},
        LATENTS | {"labels": ()},
    ),
    *(
        ("DCGANDiscriminator", IMAGE | {"width": 4, "norm": norm}, SAMPLE)
        for norm in ("batch", "instance", "layer", "none", "spectral")
    ),
    ("DCGANDiscriminator", IMAGE | LABELLED | {"width": 4, "conditioning": "acgan"}, SAMPLE),
    ("DCGANDiscriminator", IMAGE | LABELLED | {"width": 4, "conditioning": "concat"}, SAMPLE | {"labels": ()}),
    ("DCGANDiscriminator", IMAGE | LABELLED | {"width": 4, "conditioning": "projection"}, SAMPLE | {"labels": ()}),
    ("DCGANEncoder", IMAGE | {"latent_dim": 3, "width": 4}, SAMPLE),
    ("DCGANEncoder", IMAGE | {"latent_dim": 3, "width": 4, "shared_log_std": True}, SAMPLE),
    ("SNGANGenerator", {"latent_dim": 3, "out_channels": 2, "block_out_channels": (8, 4, 4, 4)}, LATENTS),
    (
        "SNGANGenerator",
        LABELLED
        | {"latent_dim": 3, "out_channels": 2, "block_out_channels": (8, 4, 4, 4), "conditioning": "batch_norm"},
        LATENTS | {"labels": ()},
    ),
    ("SNGANDiscriminator", WIDE | {"block_out_channels": (4, 4, 4, 4)}, {"sample": (2, 32, 32)}),
    (
        "SNGANDiscriminator",
        WIDE | LABELLED | {"block_out_channels": (4, 4, 4, 4), "conditioning": "projection"},
        {"sample": (2, 32, 32), "labels": ()},
    ),
    ("MLPGenerator", {"latent_dim": 3, "out_channels": 5, "sample_size": None}, LATENTS),
    ("MLPGenerator", MADE | LABELLED | {"latent_dim": 3, "conditioning": "concat"}, LATENTS | {"labels": ()}),
    ("MLPDiscriminator", {"in_channels": 5, "sample_size": None}, VECTORS),
    ("MLPDiscriminator", IMAGE | LABELLED | {"conditioning": "concat"}, SAMPLE | {"labels": ()}),
    ("MLPEncoder", IMAGE | {"latent_dim": 3}, SAMPLE),
    ("InfoGANDiscriminator", IMAGE | {"width": 4, "num_categories": 3}, SAMPLE),
    ("InfoGANDiscriminator", {"in_channels": 5, "sample_size": None, "num_categories": None}, VECTORS),
    ("VAEEncoder", IMAGE | {"latent_dim": 3, "block_out_channels": (4, 8)}, SAMPLE),
    ("VAEDecoder", MADE | {"latent_dim": 3, "block_out_channels": (4, 8)}, LATENTS),
    ("BEGANGenerator", MADE | {"latent_dim": 3, "width": 4}, LATENTS),
    ("BEGANDiscriminator", IMAGE | {"latent_dim": 3, "width": 4}, SAMPLE),
    ("BiGANDiscriminator", IMAGE | {"latent_dim": 3, "width": 4}, SAMPLE | LATENTS),
    ("BiGANDiscriminator", {"in_channels": 5, "sample_size": None, "latent_dim": 3}, VECTORS | LATENTS),
    ("LensNetwork", IMAGE | {"width": 4}, SAMPLE),
    ("LensNetwork", {"in_channels": 5, "sample_size": None}, VECTORS),
    ("PlanarFlow", {"in_channels": 5, "num_flows": 2}, VECTORS),
    ("RadialFlow", {"in_channels": 5, "num_flows": 2}, VECTORS),
    ("NICE", {"in_channels": 5, "hidden_dims": (4,)}, VECTORS),
    ("NICE", IMAGE | {"hidden_dims": (4,)}, SAMPLE),
    ("RealNVP", {"in_channels": 5, "num_couplings": 2, "hidden_dims": (4,)}, VECTORS),
    ("RealNVP", IMAGE | FLOW | {"num_scales": 2, "num_blocks": 1}, SAMPLE),
    ("Glow", IMAGE | FLOW | {"num_scales": 2, "num_flow_steps": 1}, SAMPLE),
    ("Glow", IMAGE | FLOW | LABELLED | {"num_flow_steps": 1}, SAMPLE | {"labels": ()}),
    (
        "RealNVP",
        IMAGE | FLOW | LABELLED | {"num_blocks": 0, "context_dim": 3},
        SAMPLE | {"labels": (), "context": (3,)},
    ),
    ("GaussianModel", IMAGE | {"num_components": 3}, SAMPLE),
    ("GaussianMixtureModel", {"in_channels": 5, "sample_size": None, "num_components": 3}, VECTORS),
    (
        "GaussianMixtureModel",
        {"in_channels": 5, "sample_size": None, "num_components": 3, "covariance_type": "diag"},
        VECTORS,
    ),
    ("StationaryTexture", IMAGE, {"latents": (8, 8)}),
    ("PatchDiscriminator", {"in_channels": 2, "width": 4, "receptive_field": 16}, SAMPLE),
    ("PixelwiseGenerator", IMAGE | {"width": 4, "num_residual_blocks": 1}, {"values": (2, 8, 8), "mask": (1, 8, 8)}),
    ("PixelwiseGenerator", IMAGE | {"width": 4, "architecture": "dcgan"}, {"values": (2, 8, 8), "mask": (1, 8, 8)}),
    (
        "StochasticUNet",
        IMAGE | {"latent_dim": 3, "block_out_channels": (8,), "layers_per_block": 1},
        LATENTS | {"noisy": (2, 8, 8), "timestep": ()},
    ),
    ("TimeDiscriminator", IMAGE | {"block_out_channels": (4, 4)}, SAMPLE | {"noisy": (2, 8, 8), "timestep": ()}),
)
TRANSLATORS: tuple[tuple[str, dict[str, Any], int], ...] = (
    *(("ResNetTranslator", {"norm": norm, "num_blocks": 1}, 4) for norm in ("instance", "batch", "none")),
    ("ResNetTranslator", {"norm": "instance", "num_blocks": 1, "layout": "polarcycle"}, 4),
    ("ResNetTranslator", {"norm": "batch", "norm_statistics": "image", "num_blocks": 1}, 4),
    *(("UNetTranslator", {"norm": norm, "num_downs": 2}, 4) for norm in ("instance", "batch", "none")),
    ("UNetTranslator", {"norm": "batch", "norm_statistics": "image", "num_downs": 2}, 4),
)


def make(name: str, options: dict[str, Any]) -> Any:
    """A network whose weights, statistics and densities are no special ones."""
    torch.manual_seed(0)
    network = getattr(hf_genmodels, name)(**options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.rand(parameter.shape))
    return network.eval()


def inputs_of(network: Any, shapes: dict[str, tuple[int, ...]], batch: int) -> dict[str, Tensor]:
    """Random inputs, small enough for every network."""
    generator = torch.Generator().manual_seed(batch)
    if hasattr(network, "latent_shape"):
        shapes = {**shapes, "latents": network.latent_shape}
    made = {name: torch.rand(batch, *shape, generator=generator) - 0.5 for name, shape in shapes.items()}
    if "labels" in made:
        made["labels"] = torch.randint(4, (batch,), generator=generator)
    return made


def dynamic(inputs: dict[str, Tensor], dims: dict[int, Any]) -> dict[str, dict[int, Any]]:
    """The dimensions of each input that may have any size."""
    return {name: {dim: each for dim, each in dims.items() if dim < value.ndim} for name, value in inputs.items()}


def exported(network: Any, inputs: dict[str, Tensor], dims: dict[int, Any]) -> Any:
    """The program of `torch.export` for all sizes."""
    return torch.export.export(network, (), inputs, dynamic_shapes=dynamic(inputs, dims)).module()


def assert_same_function(network: Any, program: Any, *each: dict[str, Tensor]) -> None:
    for inputs in each:
        with torch.no_grad():
            expected, found = network(**inputs), program(**inputs)
        assert type(found) is type(expected)
        for ours, theirs in zip(found.to_tuple(), expected.to_tuple(), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_every_network_is_exported() -> None:
    public = {name for name, module in hf_genmodels._PUBLIC.items() if module.startswith("hf_genmodels.models.")}
    assert {name for name, *_ in (*CASES, *TRANSLATORS)} == public


def assert_same_in_onnx(network: Any, folder: Path, dims: dict[int, Any], *each: dict[str, Tensor]) -> None:
    """The ONNX file made of the first inputs computes what the network does, for inputs of other sizes as well."""
    import onnxruntime

    file = folder / "network.onnx"
    dynamic_shapes = dynamic(each[0], dims)
    torch.onnx.export(network, (), file, kwargs=each[0], dynamic_shapes=dynamic_shapes, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for inputs in each:
        with torch.no_grad():
            expected = network(**inputs).to_tuple()
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(ours), theirs, rtol=1e-4, atol=1e-4)


def translator(name: str, options: dict[str, Any]) -> tuple[Any, list[dict[str, Tensor]]]:
    """A translator and images of several sizes."""
    network = make(name, {"in_channels": 2, "out_channels": 1, "sample_size": 16, "width": 2, **options})
    sizes = (((16, 24), 3), ((12, 20), 1), ((32, 16), 2))
    return network, [inputs_of(network, {"sample": (2, *size)}, batch) for size, batch in sizes]


CASE_IDS = [f"{number}-{name}" for number, (name, *_) in enumerate(CASES)]
TRANSLATOR_IDS = [f"{number}-{name}" for number, (name, *_) in enumerate(TRANSLATORS)]


@pytest.mark.parametrize(("name", "options", "shapes"), CASES, ids=CASE_IDS)
def test_batches_of_all_sizes(name: str, options: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    network = make(name, options)
    program = exported(network, inputs_of(network, shapes, 3), {0: Dim("batch", min=1)})
    assert_same_function(network, program, *(inputs_of(network, shapes, batch) for batch in (1, 2, 5)))


@pytest.mark.parametrize(("name", "options", "multiple"), TRANSLATORS, ids=TRANSLATOR_IDS)
def test_images_of_all_sizes(name: str, options: dict[str, Any], multiple: int) -> None:
    network, (given, *others) = translator(name, options)
    sides = {2: multiple * Dim("rows", min=3), 3: multiple * Dim("columns", min=3)}
    assert_same_function(network, exported(network, given, {0: Dim("batch", min=1), **sides}), *others)


QUICK = ("0-Autoencoder", "7-DCGANGenerator", "25-MLPGenerator")


def cases_in_onnx() -> Iterator[Any]:
    """`CASES` by cost, as exporting to ONNX takes seconds; without triangular systems, which ONNX cannot solve."""
    for number, case in zip(CASE_IDS, CASES, strict=True):
        name, options, _ = case
        if name != "GaussianMixtureModel" or options.get("covariance_type") == "diag":
            yield pytest.param(*case, id=number, marks=() if number in QUICK else pytest.mark.slow)


@pytest.mark.parametrize(("name", "options", "shapes"), list(cases_in_onnx()))
def test_onnx_with_batches_of_all_sizes(
    tmp_path: Path, name: str, options: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> None:
    network = make(name, options)
    given = [inputs_of(network, shapes, batch) for batch in (3, 1, 2, 5)]
    assert_same_in_onnx(network, tmp_path, {0: Dim("batch", min=1)}, *given)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "multiple"), TRANSLATORS, ids=TRANSLATOR_IDS)
def test_onnx_with_images_of_all_sizes(tmp_path: Path, name: str, options: dict[str, Any], multiple: int) -> None:
    network, given = translator(name, options)
    assert_same_in_onnx(network, tmp_path, {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}, *given)
