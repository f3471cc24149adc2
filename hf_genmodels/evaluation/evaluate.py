"""Measure a pipeline against a split of a data set, from the request to the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..data import DataArguments, load_split
from ..metrics.extractors import Extractor
from ..pipelines.base import GenerativePipeline
from .collect import collect
from .compared import compared_shape, data_settings, layout_of
from .report import report
from .request import Request, check_request, check_shape, find_extractor

KNOWN_PIXELS = 0.005


@torch.no_grad()
def evaluate_pipeline(
    pipeline: GenerativePipeline,
    data_args: DataArguments,
    *,
    split: str,
    metrics: Sequence[str],
    num_samples: int,
    batch_size: int,
    extractor: str | Extractor | None,
    seed: int,
    progress: bool = True,
    sampling: Mapping[str, Any] | None = None,
    known_pixels: float | None = None,
) -> list[dict[str, Any]]:
    """Measure a pipeline against a split of a data set.

    Images are compared in [0, 1], vectors as they are. Every random draw comes from a generator seeded with `seed`,
    one for the samples and a fresh one for each metric, so a number does not depend on which others were asked for.

    Args:
        pipeline: Its class says what can be measured of it, and how, see `GenerativePipeline`. Samples and
            reconstructions are compared with the data, translations with their targets (or the images of the other
            domain); of images from known pixels one is made for the pixels of each image.
        data_args: The data set; nothing is augmented.
        split: Which split is the real side.
        metrics: Some of `METRICS`.
        num_samples: Samples to draw, and the most real examples (of each domain) to use. A split with fewer is used
            whole, and "num_real" in the settings says so.
        batch_size: Examples at a time.
        extractor: As for `load_extractor`, or an extractor; None where no metric looks at features.
        seed: Of all random draws.
        progress: Show progress bars.
        sampling: Further arguments of the pipeline's call, of its `sampling_options`, such as
            {"num_inference_steps": 50}; noted in the settings. With {"direction": "b_to_a"} domains A and B change
            places.
        known_pixels: Of a pipeline that takes some: share of the pixels that are known, 0.005 by default.

    Returns:
        A dict for each number: "name", "value", "settings". "swd" has the units of the features, "MSE" those of [0, 1]
        squared, "PSNR" decibels, "negative log-likelihood" and "Parzen log-likelihood" nats for each example, the
        latter a density over [0, 1] values; "C1" to "C3" see `PolarimetricPipeline.violations`, "constraint MSE" and
        "constraints satisfied" `PixelwisePipelineOutput`, on the scale of [-1, 1].

    Raises:
        UserError: A metric that is unknown, that this pipeline or data cannot serve, or whose package is missing (all
            before anything is sampled), or samples that are not finite.
    """
    check_request(pipeline, metrics, num_samples, batch_size, known_pixels)
    options = pipeline.check_sampling_options(sampling or {})
    pipeline.set_progress_bar_config(disable=True)  # `collect` shows its own
    found = find_extractor(extractor, metrics, pipeline.device)
    share = KNOWN_PIXELS if known_pixels is None else known_pixels
    request = Request(pipeline, metrics, num_samples, batch_size, found, seed, progress, options, share)
    dataset = load_split(data_args, split, layout_of(request, data_args))
    about = {"seed": seed, "split": split, **data_settings(request, dataset, data_args)}
    shape = compared_shape(request, dataset)
    check_shape(request, shape)
    description = found.describe(shape) if found else {}
    real, made = collect(request, dataset, f"{split} of {about['dataset']}")
    return [
        {"name": name, "value": value, "settings": {**settings, "num_real": real.count, **about}}
        for metric in metrics
        for name, value, settings in report(request, metric, real, made, description)
    ]
