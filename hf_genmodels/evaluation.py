"""Measure a pipeline on a data set: the numbers of `metrics.json`, each with the settings it was made with."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor
from tqdm.auto import tqdm

from .conditional_evaluation import (
    KNOWN_PIXELS,
    Answers,
    compared_shape,
    completes,
    completions,
    data_settings,
    layout_of,
    real_batches,
    report_scores,
    translates,
    translations,
)
from .data import DataArguments, load_split
from .data.layouts import TwoImageDataset
from .errors import UserError
from .metrics import distribution, likelihood, reconstruction, texture
from .metrics.extractors import Extractor, load_extractor
from .pipelines.base import can_sample, check_sampling_options

FEATURE_METRICS = ("fid", "kid", "precision_recall", "swd", "inception_score")
RECONSTRUCTION_METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": reconstruction.mse,
    "psnr": reconstruction.psnr,
    "ssim": reconstruction.ssim,
    "lpips": reconstruction.lpips,
}
TEXTURE_METRICS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "hog": texture.hog_distance,
    "lbp": texture.lbp_distance,
}
SAMPLING_METRICS = (*FEATURE_METRICS, *TEXTURE_METRICS, "parzen")
METRICS = (*SAMPLING_METRICS, *RECONSTRUCTION_METRICS, "nll", "violations", "constraints")

_SMALLEST = 4  # precision and recall look at the third neighbour
_NEIGHBOUR = 3
_PROJECTIONS = 512
_SUBSETS, _SUBSET_SIZE = 100, 1000
_RADII = (1, 2)
_PARZEN_DATA = 2  # one half of the real data chooses the bandwidth, the other is scored


@dataclass
class _Collected:
    """What one pass over the real data or the samples leaves: values, features, numbers for each example."""

    values: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    probabilities: list[Tensor] = field(default_factory=list)
    scores: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    count: int = 0

    def add(self, images: Tensor, request: _Request) -> None:
        self.count += len(images)
        if any(metric in (*TEXTURE_METRICS, "parzen") for metric in request.metrics):
            self.values.append(images.float().cpu())
        if request.extractor is not None:
            features, probabilities = request.extractor(images)
            self.features.append(features.float().cpu())
            if probabilities is not None:
                self.probabilities.append(probabilities.float().cpu())


@dataclass(frozen=True)
class _Request:
    """What `evaluate_pipeline` was asked for, once it is known that it can be served."""

    pipeline: DiffusionPipeline
    metrics: Sequence[str]
    num_samples: int
    batch_size: int
    extractor: Extractor | None
    seed: int
    progress: bool
    sampling: Mapping[str, Any]
    known_pixels: float


@torch.no_grad()
def evaluate_pipeline(
    pipeline: DiffusionPipeline,
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
        pipeline: Answers `pipeline(batch_size=, generator=, output_type="pt").images`, and `reconstruct` and
            `log_likelihood` where a metric needs them; or, of images to translate, `pipeline(image=,
            output_type="pt").images`, which are compared with their targets (or the images of the other domain). A
            `PixelwisePipeline` makes one sample of each image's known pixels.
        data_args: The data set; nothing is augmented.
        split: Which split is the real side.
        metrics: Some of `METRICS`.
        num_samples: Samples to draw, and the most real examples (of each domain) to use. A split with fewer is used
            whole, and "num_real" in the settings says so.
        batch_size: Examples at a time.
        extractor: As for `load_extractor`, or an extractor; None where no metric of `FEATURE_METRICS` is asked for.
        seed: Of all random draws.
        progress: Show progress bars.
        sampling: Further arguments of the pipeline's call, such as {"num_inference_steps": 50}; noted in the settings.
            With {"direction": "b_to_a"} domains A and B change places.
        known_pixels: Of a `PixelwisePipeline`: share of the pixels that are known, 0.005 by default.

    Returns:
        A dict for each number: "name", "value", "settings". "swd" has the units of the features, "MSE" those of [0, 1]
        squared, "PSNR" decibels, "negative log-likelihood" and "Parzen log-likelihood" nats for each example, the
        latter a density over [0, 1] values; "C1" to "C3" see `PolarimetricPipeline.violations`, "constraint MSE" and
        "constraints satisfied" `PixelwisePipelineOutput`, on the scale of [-1, 1].

    Raises:
        UserError: A metric that is unknown, that this pipeline or data cannot serve, or whose package is missing (all
            before anything is sampled), or samples that are not finite.
    """
    _check_request(pipeline, metrics, num_samples, batch_size, known_pixels)
    sampling = check_sampling_options(pipeline, sampling or {})
    pipeline.set_progress_bar_config(disable=True)  # ours are in _collect_*
    looked_through = _find_extractor(extractor, metrics, pipeline.device)
    one_by_one = [metric for metric in metrics if metric in RECONSTRUCTION_METRICS]
    dataset = load_split(data_args, split, layout_of(pipeline, data_args, one_by_one))
    share = KNOWN_PIXELS if known_pixels is None else known_pixels
    request = _Request(pipeline, metrics, num_samples, batch_size, looked_through, seed, progress, sampling, share)
    about = {"seed": seed, "split": split, **data_settings(pipeline, dataset, data_args, sampling)}
    about |= {"known_pixels": share} if completes(pipeline) else {}
    shape = compared_shape(pipeline, dataset, sampling)
    _check_shape(pipeline, shape, metrics)
    description = looked_through.describe(shape) if looked_through else {}
    real, made = _collect(request, dataset, f"{split} of {about['dataset']}")
    return [
        {"name": name, "value": value, "settings": {**settings, "num_real": real.count, **about}}
        for metric in metrics
        for name, value, settings in _report(request, metric, real, made, description)
    ]


def _collect(request: _Request, dataset: Any, where: str) -> tuple[_Collected, _Collected]:
    """What the real data leave, and what the pipeline made."""
    amount: dict[str, int] = {"batch_size": request.batch_size, "limit": request.num_samples}
    if isinstance(dataset, TwoImageDataset):
        with_violations = "violations" in request.metrics
        answers = translations(request.pipeline, dataset, request.sampling, with_violations, **amount)
        return _collect_answers(request, answers)
    if completes(request.pipeline):
        share, seed = request.known_pixels, request.seed
        return _collect_answers(
            request, completions(request.pipeline, dataset, request.sampling, share, seed, **amount)
        )
    real = _collect_real(request, real_batches(dataset, **amount))
    if not real.count:
        raise UserError(f"split {where} is empty")
    return real, _collect_samples(request)


def _collect_real(request: _Request, batches: Iterable[Tensor]) -> _Collected:
    """One pass over the real data: features, reconstruction errors, likelihoods."""
    real = _Collected()
    generators = {name: torch.Generator().manual_seed(request.seed) for name in ("reconstruct", "nll")}
    with tqdm(total=request.num_samples, desc="real", unit="example", disable=not request.progress) as bar:
        for batch in batches:
            real.add(batch, request)
            _score(request.pipeline, batch, request.metrics, generators, real)
            bar.update(len(batch))
        bar.total = bar.n
    return real


def _collect_samples(request: _Request) -> _Collected:
    """As many samples as asked for, or none where no metric looks at them."""
    made = _Collected()
    if not any(metric in SAMPLING_METRICS for metric in request.metrics):
        return made
    generator = torch.Generator().manual_seed(request.seed)
    with tqdm(total=request.num_samples, desc="samples", unit="example", disable=not request.progress) as bar:
        while made.count < request.num_samples:
            number = min(request.batch_size, request.num_samples - made.count)
            options = {**request.sampling, "batch_size": number, "generator": generator}
            images = request.pipeline(**options, output_type="pt").images
            made.add(images, request)
            bar.update(number)
    return made


def _collect_answers(request: _Request, answers: Iterable[Answers]) -> tuple[_Collected, _Collected]:
    """One pass over what a pipeline makes of images, and over what that is compared with."""
    real, made = _Collected(), _Collected()
    with tqdm(total=request.num_samples, desc="images", unit="example", disable=not request.progress) as bar:
        for batch in answers:
            if batch.real is not None:
                real.add(batch.real, request)
            if batch.made is not None:
                made.add(batch.made, request)
                bar.update(len(batch.made))
            for name, values in batch.scores.items():
                made.scores[name].append(values.double().cpu())
            for metric in request.metrics:
                if metric in RECONSTRUCTION_METRICS:
                    assert batch.real is not None and batch.made is not None  # pairs: `layout_of`
                    real.scores[metric].append(RECONSTRUCTION_METRICS[metric](batch.real, batch.made).double())
        bar.total = bar.n
    return real, made


def _report(
    request: _Request, metric: str, real: _Collected, made: _Collected, description: dict[str, Any]
) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Name, value and settings of each number of one metric; `description` is the extractor's."""
    without_extractor: dict[str, Any] = {"extractor": None, "weights_sha256": None, "resize": None}
    if metric in FEATURE_METRICS:
        fresh = torch.Generator().manual_seed(request.seed)
        for name, value, details in _feature_metric(metric, real, made, fresh):
            yield name, value, {**description, "num_samples": made.count, **request.sampling, **details}
    elif metric in TEXTURE_METRICS:
        settings = {**without_extractor, "num_samples": made.count, **request.sampling}
        for name, value, details in _texture_metric(metric, torch.cat(real.values), torch.cat(made.values)):
            yield name, value, {**settings, **details}
    elif metric in RECONSTRUCTION_METRICS:
        settings = {**without_extractor, "num_samples": real.count}
        if translates(request.pipeline):  # a call, whose options matter
            settings |= request.sampling
        if metric == "lpips":
            settings["extractor"] = "lpips-alex"
        yield metric.upper(), torch.cat(real.scores[metric]).mean().item(), settings
    elif metric in ("violations", "constraints"):
        settings = {**without_extractor, "num_samples": made.count, **request.sampling}
        for name, value, details in report_scores(metric, made.scores):
            yield name, value, {**settings, **details}
    elif metric == "nll":
        # how many draws stand behind each example's bound; an exact likelihood has no such argument
        draws = inspect.signature(request.pipeline.log_likelihood).parameters.get("num_samples")
        settings = {**without_extractor, "num_samples": real.count}
        if draws:
            settings["latent_samples"] = draws.default
        # not "NLL": a training run may have a figure of that name, which is another quantity
        yield "negative log-likelihood", torch.cat(real.scores["nll"]).mean().item(), settings
    else:
        samples, data = (torch.cat(each.values).flatten(1) for each in (made, real))
        # alternate examples: a split may be sorted by class
        bandwidth = likelihood.choose_bandwidth(samples, data[::_PARZEN_DATA])
        scored = likelihood.parzen_log_likelihood(samples, data[1::_PARZEN_DATA], bandwidth)
        settings = {**without_extractor, "num_samples": made.count, "num_scored": len(scored), **request.sampling}
        yield "Parzen log-likelihood", scored.mean().item(), settings
        yield "Parzen bandwidth", bandwidth, settings


def _feature_metric(
    metric: str, real: _Collected, made: _Collected, generator: torch.Generator
) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Name, value and further settings of each number of one metric over features."""
    a, b = torch.cat(real.features), torch.cat(made.features)
    if metric == "fid":
        yield "FID", distribution.frechet_distance_from_features(a, b), {}
    elif metric == "kid":
        # subsets of more than half of a set are nearly the same set each time, and their spread says nothing
        details = {"num_subsets": _SUBSETS, "subset_size": min(_SUBSET_SIZE, len(a) // 2, len(b) // 2)}
        kid = distribution.kernel_distance(a, b, generator=generator, **details)
        yield "KID", kid.mean, details
        yield "KID std", kid.std, details
    elif metric == "precision_recall":
        pair = distribution.precision_recall(a, b, k=_NEIGHBOUR)
        yield "precision", pair.precision, {"k": _NEIGHBOUR}
        yield "recall", pair.recall, {"k": _NEIGHBOUR}
    elif metric == "swd":
        value = distribution.sliced_wasserstein(a, b, generator=generator, num_projections=_PROJECTIONS)
        yield "SWD", value, {"num_projections": _PROJECTIONS}
    else:
        entropy = distribution.inception_score(torch.cat(made.probabilities))
        yield "inception score", entropy.score, {}
        yield "label entropy", entropy.marginal, {}


def _texture_metric(metric: str, images: Tensor, samples: Tensor) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Name, value and further settings of each number of one metric of textures."""
    if metric == "hog":
        yield "HOG", texture.hog_distance(images, samples), {}
        return
    for radius in _RADII:
        yield f"LBP radius {radius}", texture.lbp_distance(images, samples, radius), {"radius": radius}


def _score(
    pipeline: Any,
    images: Tensor,
    metrics: Sequence[str],
    generators: dict[str, torch.Generator],
    collected: _Collected,
) -> None:
    """Add each example's reconstruction errors and negative log-likelihood, where asked for."""
    wanted = [metric for metric in metrics if metric in RECONSTRUCTION_METRICS]
    if wanted:
        is_random = "generator" in inspect.signature(pipeline.reconstruct).parameters
        options = {"generator": generators["reconstruct"]} if is_random else {}
        decoded = pipeline.reconstruct(images, output_type="pt", **options).images.cpu()
        for metric in wanted:
            collected.scores[metric].append(RECONSTRUCTION_METRICS[metric](images, decoded).double())
    if "nll" in metrics:
        collected.scores["nll"].append(-pipeline.log_likelihood(images, generator=generators["nll"]).double().cpu())


def _check_request(
    pipeline: Any, metrics: Sequence[str], num_samples: int, batch_size: int, known_pixels: float | None
) -> None:
    """What can be refused before any data is read."""
    kind = type(pipeline).__name__
    if not metrics:
        raise UserError(f"no metric asked for; choose from {' '.join(METRICS)}")
    for metric in metrics:
        if metric not in METRICS:
            raise UserError(f"unknown metric {metric!r}; choose from {' '.join(METRICS)}")
        compared = translates(pipeline) or (completes(pipeline) and metric != "parzen") or can_sample(pipeline)
        if metric in SAMPLING_METRICS and not compared:
            raise UserError(f"{metric} needs samples, and {kind} cannot sample by itself")
        if metric == "violations" and not hasattr(pipeline, "violations"):
            raise UserError(f"violations needs polarimetric images, and {kind} makes none")
        if metric == "constraints" and not completes(pipeline):
            raise UserError(f"constraints needs known pixels, and {kind} takes none")
        if metric in RECONSTRUCTION_METRICS and not (translates(pipeline) or hasattr(pipeline, "reconstruct")):
            raise UserError(f"{metric} needs reconstructions, and {kind} has no reconstruct()")
        if metric == "nll" and not hasattr(pipeline, "log_likelihood"):
            raise UserError(f"nll needs likelihoods, and {kind} has no log_likelihood()")
        if metric == "nll" and getattr(pipeline, "num_classes", None) is not None:
            raise UserError("nll is not measured of class-conditional models; call log_likelihood with class_labels")
        if metric in ("psnr", "ssim"):
            reconstruction.require_torchmetrics(metric)
        if metric == "lpips":
            reconstruction.require_lpips()
    if known_pixels is not None and not completes(pipeline):
        raise UserError(f"--known_pixels: a {kind} takes no known pixels; leave it out")
    if num_samples < _SMALLEST:
        raise UserError(f"num_samples must be at least {_SMALLEST}, got {num_samples}")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")


def _find_extractor(
    extractor: str | Extractor | None, metrics: Sequence[str], device: torch.device
) -> Extractor | None:
    """The extractor, or None where no metric looks at features."""
    needing = [metric for metric in metrics if metric in FEATURE_METRICS]
    if not needing:
        return None
    if extractor is None:
        raise UserError(
            f"{needing[0]} needs --extractor: what `hf-genmodels train classifier` made (folder or Hub id), "
            "inception, or pixels"
        )
    found = load_extractor(extractor, device) if isinstance(extractor, str) else extractor
    if "inception_score" in needing and not found.has_probabilities:
        raise UserError(f"inception_score needs class probabilities, and extractor {found.name} gives none")
    return found


def _check_shape(pipeline: Any, shape: tuple[int, ...], metrics: Sequence[str]) -> None:
    """What can be refused once the shape of what samples are compared with is known."""
    if not translates(pipeline) and tuple(pipeline.sample_shape) != shape:
        raise UserError(
            f"the pipeline makes samples of shape {tuple(pipeline.sample_shape)}, the data have {shape}; "
            "choose the data set or --resolution it was trained with"
        )
    if len(shape) == 1:
        for metric in ("psnr", "ssim", "lpips"):
            if metric in metrics:
                raise UserError(f"{metric} is for images, and the data are vectors of dimension {shape[0]}; use mse")
    noise = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    for metric in metrics:
        if metric in TEXTURE_METRICS:
            TEXTURE_METRICS[metric](noise, noise)  # which says what it needs
