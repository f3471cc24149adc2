"""Measure a pipeline against a split of a data set, from the request to the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..checks import check_seed
from ..data import DataArguments
from ..data.columns import excluded_label
from ..data.loading import load_chosen_split
from ..errors import UserError
from ..metrics.extractors import Extractor
from ..pipelines.base import GenerativePipeline
from .cache import FeatureCache
from .collect import NO_LABELS, Collected, collect, joined
from .compared import check_white, compared_shape, data_settings, layout_of
from .kinds import ANOMALY, FACTORS
from .processes import Processes
from .report import Figure, report
from .request import Request, check_request, check_shape, find_extractor, named_metrics

KNOWN_PIXELS = 0.005


@torch.no_grad()
def evaluate_pipeline(
    pipeline: GenerativePipeline,
    data_args: DataArguments,
    *,
    split: str | None,
    metrics: Sequence[str],
    num_samples: int,
    batch_size: int,
    extractor: str | Extractor | None,
    seed: int,
    progress: bool = True,
    sampling: Mapping[str, Any] | None = None,
    known_pixels: float | None = None,
    processes: Processes | None = None,
    feature_cache: bool = True,
) -> list[dict[str, Any]]:
    """Measure a pipeline against a split of a data set.

    Images are compared in [0, 1], vectors as they are. Every random draw comes from a generator seeded with `seed`,
    one for the samples and a fresh one for each metric, so a number does not depend on which others were asked for.

    Args:
        pipeline: Its class says what can be measured of it, see `GenerativePipeline`. Translations are compared with
            their targets (or the images of the other domain); of each image's known pixels one sample is made.
        data_args: The data set; nothing is augmented. Its `exclude_label` is the class that is the anomaly of "auroc".
        split: Which split is the real side; None stands for `test`, or for `train` where there is no other.
        metrics: Some of `METRICS`.
        num_samples: Samples to draw, and the most real examples (of each domain) to use; "num_real" says how many.
        batch_size: Examples at a time.
        extractor: As for `load_extractor`, or an extractor; None where no metric looks at features.
        seed: Of all random draws.
        progress: Show progress bars.
        sampling: Some of the pipeline's `sampling_options`, such as {"num_inference_steps": 50}; noted in the
            settings. With {"direction": "b_to_a"} domains A and B change places.
        known_pixels: Of a pipeline that takes some: share of the pixels that are known, 0.005 by default.
        processes: That share the batches; by default those that the launcher says, each of which must call this.
        feature_cache: Keep the extractor's features of the real data in the cache folder of the data, and use those
            that an earlier evaluation has left there, see `FeatureCache`.

    Returns:
        A dict for each number: "name", "value", "settings", and "note" where something has to be said beside it, such
        as of an FID of fewer examples than features. "SWD" and "W1" have the units of the features, "MSE" those of
        [0, 1] squared, "PSNR" decibels, log-likelihoods nats for each example, the Parzen one of a density
        over [0, 1]; "C1" to "C3" see `PolarimetricPipeline.violations`, the constraints' `PixelwisePipelineOutput`.

    Raises:
        UserError: A metric is unknown, cannot be served by this pipeline or data, or its package is missing (all known
            before anything is sampled), or samples are not finite.
    """
    processes = Processes() if processes is None else processes
    with processes.together():
        metrics = named_metrics(pipeline, metrics)
        check_request(pipeline, metrics, num_samples, batch_size, known_pixels)
        check_seed("seed", seed)
        options = pipeline.check_sampling_options(sampling or {})
        pipeline.set_progress_bar_config(disable=True)  # `collect` shows its own
        found = find_extractor(extractor, metrics, pipeline.device)
        known = KNOWN_PIXELS if known_pixels is None else known_pixels
        request = Request(pipeline, metrics, num_samples, batch_size, found, seed, progress, options, known, processes)
        if request.of(ANOMALY) and data_args.exclude_label is None:
            raise UserError("auroc needs --exclude_label: the class that is the anomaly, which training left out")
        split, dataset = load_chosen_split(data_args, split, layout_of(request, data_args))
        if request.of(ANOMALY) and dataset.spec.class_names is None and not data_args.streaming:
            raise UserError(NO_LABELS)  # of a stream, classes may be known by their numbers alone
        if request.of(FACTORS) and "factors" not in getattr(dataset, "extras", {}):
            raise UserError(
                f"mig needs data that say what each image was made of, and {dataset.spec.name} does not; "
                "builtin:shapes does"
            )
        check_white(request, dataset, data_args)
        request = replace(request, anomaly=excluded_label(data_args, dataset.spec.class_names))
        about: dict[str, Any] = {"seed": seed, "split": split, **data_settings(request, dataset, data_args)}
        shape = compared_shape(request, dataset)
        check_shape(request, shape)
        description = found.describe(shape) if found else {}
        cache, features = None, None
        if feature_cache and processes.is_main:
            cache = FeatureCache.of(request, dataset, data_args, split, description)
            features = None if cache is None else cache.load()
    figures, real = measure(request, dataset, f"{split} of {about['dataset']}", description, features)
    if real is not None and features is None and cache is not None:
        cache.store(torch.cat(real.features))
    about["num_real"] = real.count if real is not None else None
    results = [
        {"name": figure.name, "value": figure.value, "settings": {**figure.settings, **about}}
        | ({"note": figure.note} if figure.note else {})
        for figure in figures
    ]
    return processes.of_main(results)


def measure(
    request: Request, dataset: Any, where: str, description: dict[str, Any], features: Tensor | None = None
) -> tuple[list[Figure], Collected | None]:
    """Measure a pipeline on a data set that is open, once all has been checked.

    Args:
        request: What was asked for.
        dataset: As `layout_of` says.
        where: The split and the data set, in words.
        description: The extractor's of itself.
        features: Of the real data, in the main process, where they are known.

    Returns:
        The figures, and what one pass has left of the real data; of several processes in the main one, where the
        others have nothing.

    Raises:
        UserError: See `evaluate_pipeline`.
    """
    processes = request.processes
    request = replace(request, has_real_features=processes.of_main(features is not None))
    with processes.together():
        collected = [each.to_cpu() for each in collect(request, dataset, where)]
    parts = [processes.to_main(each) for each in collected]
    figures: list[Figure] = []
    real = None
    with processes.together():
        if processes.is_main:
            real, made = map(joined, parts)
            if features is not None:
                real.features, real.count = [features], len(features)
            for metric in request.metrics:
                figures += report(request, metric, real, made, description)
    return figures, real
