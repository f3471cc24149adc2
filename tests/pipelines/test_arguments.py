"""Whatever is given to a method of a pipeline: it works, or one line says what is wrong with it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hf_genmodels
from hf_genmodels import GANPipeline, GenerativePipeline
from hf_genmodels.operators import Inpainting
from tests.families import TINY
from tests.testing_utils.offloading import public_methods
from tests.testing_utils.pipelines import networks, tiny_pipeline
from tests.testing_utils.refusals import refused

COUNTS = ("2", 1.5, True, [2], -1, 0, np.float64(2.0), torch.tensor([2]), 2j)
NUMBERS = ("1", True, math.nan, math.inf, [1.0], torch.tensor([1.0, 2.0]), 1j)
FLAGS = ("no", 1, None, 0.5, [True])
TEXTS = (3, ["np"], b"np", "no such thing")
GENERATORS = (42, "0", np.random.default_rng(0), [42], [None], {"seed": 1})
HOLLOW = (torch.zeros(1, 8, 8).to_sparse(), torch.zeros(1, 8, 8, device="meta"), torch.zeros(1, 8, 8) * 1j)
IMAGES: tuple[Any, ...] = (
    *(None, 3, "picture.png", [], [None], {}, object(), [[]]),
    *(np.zeros((0, 0)), np.zeros((1, 0, 0, 1)), torch.zeros(0, 1, 8, 8), torch.zeros(1, 0, 0), torch.tensor(1.0)),
    *(np.zeros((8, 8), dtype=object), np.array(["a"]), np.full((8, 8), math.nan), torch.full((1, 8, 8), math.nan)),
    *(Image.new("CMYK", (8, 8)), Image.new("L", (5, 7)), [torch.zeros(1, 8, 8), None]),
    *(*HOLLOW, [HOLLOW[0]], [HOLLOW[1]]),
)
LATENTS: tuple[Any, ...] = (
    *(3, "zeros", [], [[1.0], [1.0, 2.0]], [None], {}, object(), torch.zeros(0, 2), np.zeros((0, 0))),
    *(np.array(["a"]), np.array([None]), torch.full((1, 2), math.nan), np.full((1, 2), math.inf), torch.zeros(1, 99)),
    *(torch.ones(1, 2, dtype=torch.bool), *HOLLOW),
)
LABELS: tuple[Any, ...] = (1.5, "no such class", [], [[0]], {}, [None], -1, 99, True, [0, "1"], *HOLLOW)
MASKS: tuple[Any, ...] = (None, 3, "mask", [], torch.zeros(8, 8), np.zeros((0, 0)), torch.full((8, 8), 0.5), *HOLLOW)
CALLBACKS = (3, "print", ["latents"])
WRONG: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("image", "images", "values", "measurement", "intensities"), IMAGES),
    **dict.fromkeys(("latents", "xi", "context", "codes"), LATENTS),
    **dict.fromkeys(
        ("plus", "minus"), (3, "zeros", [3], [None], torch.zeros(1, 2), [torch.zeros(1, 99)], [HOLLOW[1]])
    ),
    "mask": MASKS,
    "dimensions": (3, "zero", [0], [0, 0], [0, 99], [0.5, 1], [0, 1, 0], [[0], [1]]),
    "operator": (None, 3, "inpainting", abs),
    "class_labels": LABELS,
    "timesteps": LABELS,
    "classifier": (3, "folder", [], object()),
    "callback_on_step_end": CALLBACKS,
    "callback_on_step_end_tensor_inputs": (3, "latents", ["no such tensor"], [3], None),
    **dict.fromkeys(
        ("tile_overlap", "code"), tuple(value for value in COUNTS if type(value) is not int or value != 0)
    ),
    "quantile": (*NUMBERS, -0.1, 1.5),
}
BY_TYPE = {"int": COUNTS, "float": NUMBERS, "bool": FLAGS, "str": TEXTS, "Direction": TEXTS, "Method": TEXTS}


def good_arguments(pipeline: GenerativePipeline, method: Any) -> dict[str, Any]:
    """Arguments of a method without defaults, as they should be."""
    network: Any = next(iter(networks(pipeline).values()))
    channels, *sides = (network.config.get("in_channels"), *pipeline.sample_shape[1:])
    image = torch.full((1, channels or pipeline.sample_shape[0], *sides), 0.5)
    latent_dim = getattr(pipeline, "latent_dim", None)
    latent = torch.zeros(1, *(getattr(pipeline, "latent_shape", None) or (latent_dim or 2,)))
    of_latents = isinstance(pipeline, GANPipeline)
    good = {
        **dict.fromkeys(("image", "images", "values"), image),
        **dict.fromkeys(("a", "b"), latent if of_latents else image),
        "intensities": torch.full((1, 4, 8, 8), 0.5),
        "latents": latent,
        "plus": [latent],
        "mask": torch.eye(8),
        "measurement": image,
        "operator": Inpainting(torch.eye(8)[None]),
        "class_labels": 0,
        "timesteps": 0,
        "num_steps": 2,
    }
    taken = inspect.signature(method).parameters
    required = {name for name, parameter in taken.items() if parameter.default is inspect.Parameter.empty}
    if pipeline.num_classes is not None and "class_labels" in taken:
        required.add("class_labels")
    return {name: good[name] for name in required}


def wrong_arguments(pipeline: GenerativePipeline, method: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of each argument that is to be refused."""
    for name, parameter in inspect.signature(method).parameters.items():
        kinds = str(parameter.annotation).split(" | ")
        values = WRONG.get(name, ())
        if name in ("a", "b"):
            values = LATENTS if isinstance(pipeline, GANPipeline) else IMAGES
        if name == "generator":
            values = GENERATORS if "Generators" in kinds else (*GENERATORS, [torch.Generator()])
        values = values or next((BY_TYPE[kind] for kind in kinds if kind in BY_TYPE), ())
        assert values, f"{name} of {method.__qualname__}: a kind of argument that this test does not know"
        may_be_none = parameter.default is None
        yield from ((name, value) for value in values if value is not None or not may_be_none)
        if not may_be_none and all(value is not None for value in values):
            yield name, None


# What subclasses give to a pipeline's own loop.
HOOKS = frozenset({"take_step"})
CALLS = [
    (name, method) for name in TINY for method in public_methods(getattr(hf_genmodels, name)) if method not in HOOKS
]


@pytest.mark.parametrize(("name", "method_name"), CALLS, ids=lambda value: value)
def test_wrong_arguments_are_one_line(name: str, method_name: str) -> None:
    pipeline = tiny_pipeline(name)
    method = getattr(pipeline, method_name)
    good = good_arguments(pipeline, method)
    failures = []
    for argument, value in wrong_arguments(pipeline, method):
        try:
            with refused():
                method(**{**good, argument: value})
        except BaseException as error:
            failures.append(f"{argument}={value!r:.60}: {type(error).__name__}: {error!s:.90}")
    assert not failures, "\n" + "\n".join(failures)


def test_what_stands_for_numbers_and_lists_will_do() -> None:
    pipeline = tiny_pipeline("GANPipeline")

    def drawn(**arguments: Any) -> torch.Tensor:
        return pipeline(output_type="pt", **arguments).images

    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    expected = drawn(batch_size=2, generator=seeds, truncation=0.5)
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    assert torch.equal(drawn(batch_size=np.int64(2), generator=tuple(seeds), truncation=np.float32(0.5)), expected)
    latents = torch.randn(2, 2).tolist()
    assert torch.equal(drawn(latents=latents), drawn(latents=np.array(latents, np.float32)[::-1].copy()[::-1]))
