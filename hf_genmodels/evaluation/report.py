"""The numbers of each metric, from what was collected, and the settings that each was made with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import UserError
from ..losses.dequantization import bits_per_dim
from ..losses.likelihood import kl_standard_normal
from ..metrics import distribution, latents, likelihood, texture
from ..metrics.constraints import EPSILON
from ..metrics.depth import DEPTH_ERRORS, NEAREST
from ..metrics.detection import auroc
from ..metrics.polarimetry import mean_std_median
from ..metrics.segmentation import agreement
from ..metrics.sliced_wasserstein import sliced_wasserstein
from ..metrics.wasserstein import wasserstein
from .collect import Collected
from .kinds import (
    ANOMALY,
    CONSTRAINTS,
    DENSITY,
    DEPTH,
    ERROR,
    FACTORS,
    FEATURE_ERROR,
    FEATURES,
    KINDS,
    LABELS,
    LATENTS,
    LIKELIHOOD,
    MAPS,
    POSTERIOR,
    TEXTURE,
    VIOLATIONS,
    Kind,
)
from .request import Request

_NEIGHBOUR = 3
_PROJECTIONS = 512
_SUBSETS, _SUBSET_SIZE = 100, 1000
_MATCHED = 2000  # rows of each set that are matched one to one
_RADII = (1, 2)
_PARZEN_DATA = 2  # one half of the real data chooses the bandwidth, the other is scored
_WITHOUT_EXTRACTOR: dict[str, Any] = {"extractor": None, "weights_sha256": None, "resize": None}


class Figure(NamedTuple):
    """A number, how it was made, and what has to be said beside it."""

    name: str
    value: float
    settings: dict[str, Any]
    note: str | None = None


def report(
    request: Request, metric: str, real: Collected, made: Collected, description: dict[str, Any]
) -> Iterator[Figure]:
    """The numbers of one metric.

    Args:
        request: What was asked for.
        metric: One of its metrics.
        real: Of the real data.
        made: Of what the pipeline made.
        description: The extractor's of itself.

    Raises:
        UserError: A number is none: what it was made of is not finite.
    """
    kind = KINDS[metric]
    of_extractor = description if kind in (FEATURES, FEATURE_ERROR, LABELS) else _WITHOUT_EXTRACTOR
    for figure in _REPORTS[kind](request, metric, real, made):
        # of images that are equal to the last bit, PSNR is infinite
        if math.isnan(figure.value) or (math.isinf(figure.value) and metric != "psnr"):
            raise UserError(
                f"{metric}: {figure.name} is no finite number ({figure.value}); the model's "
                "weights hold such, or it is lost on these data"
            )
        yield figure._replace(settings={**of_extractor, **figure.settings})


def _of_samples(request: Request, made: Collected) -> dict[str, Any]:
    """How many samples stand behind a number, and how they were drawn."""
    return {"num_samples": made.count, **request.sampling}


def _compare_features(request: Request, metric: str, real: Collected, made: Collected) -> Iterator[Figure]:
    a, b, settings = torch.cat(real.features), torch.cat(made.features), _of_samples(request, made)
    if metric == "fid":
        yield Figure("FID", distribution.frechet_distance_from_features(a, b), settings, _too_few(a, b))
    elif metric == "kid":
        # subsets of more than half of a set are nearly the same set each time, and their spread says nothing
        subsets = {"num_subsets": _SUBSETS, "subset_size": min(_SUBSET_SIZE, len(a) // 2, len(b) // 2)}
        kid = distribution.kernel_distance(a, b, generator=request.generator(), **subsets)
        few = _too_few(a, b) and f"few examples: subsets of {subsets['subset_size']}, not {_SUBSET_SIZE}, scatter"
        yield Figure("KID", kid.mean, {**settings, **subsets}, few)
        yield Figure("KID std", kid.std, {**settings, **subsets})
    elif metric == "precision_recall":
        pair = distribution.precision_recall(a, b, k=_NEIGHBOUR)
        yield Figure("precision", pair.precision, {**settings, "k": _NEIGHBOUR})
        yield Figure("recall", pair.recall, {**settings, "k": _NEIGHBOUR})
    elif metric == "swd":
        value = sliced_wasserstein(a, b, generator=request.generator(), num_projections=_PROJECTIONS)
        yield Figure("SWD", value, {**settings, "num_projections": _PROJECTIONS})
    elif metric == "wasserstein":
        generator, size = request.generator(), min(len(a), len(b), _MATCHED)
        chosen = (features[torch.randperm(len(features), generator=generator)[:size]] for features in (a, b))
        yield Figure("W1", wasserstein(*chosen), {**settings, "subset_size": size})
    else:
        entropy = distribution.inception_score(torch.cat(made.probabilities))
        yield Figure("inception score", entropy.score, settings)
        yield Figure("label entropy", entropy.marginal, settings)


def _too_few(a: Tensor, b: Tensor) -> str | None:
    """What is to be said of a distance of Gaussians that were fitted to too few examples, None otherwise."""
    fewest, dim = min(len(a), len(b)), a.shape[1]
    if fewest > dim:
        return None
    return f"{fewest} examples for {dim} features: too few for a covariance, and the distance comes out too large"


def _compare_textures(request: Request, metric: str, real: Collected, made: Collected) -> Iterator[Figure]:
    images, samples, settings = torch.cat(real.values), torch.cat(made.values), _of_samples(request, made)
    if metric == "hog":
        yield Figure("HOG", texture.hog_distance(images, samples), settings)
        return
    for radius in _RADII:
        value = texture.lbp_distance(images, samples, radius)
        yield Figure(f"LBP radius {radius}", value, {**settings, "radius": radius})


def _estimate_density(request: Request, metric: str, real: Collected, made: Collected) -> Iterator[Figure]:
    samples, data = (torch.cat(each.values).flatten(1) for each in (made, real))
    # alternate examples: a split may be sorted by class
    bandwidth = likelihood.choose_bandwidth(samples, data[::_PARZEN_DATA])
    scored = likelihood.parzen_log_likelihood(samples, data[1::_PARZEN_DATA], bandwidth)
    settings = {"num_samples": made.count, "num_scored": len(scored), **request.sampling}
    yield Figure("Parzen log-likelihood", scored.mean().item(), settings)
    yield Figure("Parzen bandwidth", bandwidth, settings)


def _mean_error(request: Request, metric: str, real: Collected, made: Collected) -> Iterator[Figure]:
    settings: dict[str, Any] = {"num_samples": real.count}
    if request.pipeline.translates:  # a call, whose options matter
        settings |= request.sampling
    if metric == "lpips":
        settings["extractor"] = "lpips-alex"
    name = "feature distance" if metric == "feature_distance" else metric.upper()
    yield Figure(name, torch.cat(real.scores[metric]).mean().item(), settings)


def _mean_likelihood(request: Request, metric: str, real: Collected, made: Collected) -> Iterator[Figure]:
    settings = {"num_samples": real.count, **request.likelihood_options}
    if request.pipeline.likelihood_draws is not None:
        settings["latent_samples"] = request.pipeline.likelihood_draws
    mean = torch.cat(real.scores["nll"]).mean()
    if metric == "bpd":
        dim = torch.Size(request.pipeline.sample_shape).numel()
        yield Figure("bits per dimension", bits_per_dim(-mean, dim).item(), settings)
        return
    # not "NLL": a training run may have a figure of that name, which is another quantity
    yield Figure("negative log-likelihood", mean.item(), settings)


def _describe_latents(request: Request, metric: str, real: Collected, made: Collected) -> Iterator[Figure]:
    pipeline: Any = request.pipeline
    codes, settings, generator = torch.cat(real.scores["code"]), {"num_samples": real.count}, request.generator()
    priors = [pipeline.prior_latents(len(codes), generator, None).double().cpu() for _ in range(2)]

    def share(codes: Tensor) -> float:
        return latents.holes(codes, priors[0]).double().mean().item()

    yield Figure("active units", latents.active_units(codes), {**settings, "threshold": latents.ACTIVE})
    if "log_std" in real.scores:
        log_std = torch.cat(real.scores["log_std"])
        yield Figure("KL", kl_standard_normal(codes, log_std).double().sum(1).mean().item(), settings)
        gaussian = latents.aggregate_gaussian_kl(codes, log_std)
        yield Figure("KL of the codes' Gaussian to the prior", gaussian, settings)
        codes = codes + torch.exp(log_std) * torch.randn(codes.shape, generator=generator, dtype=codes.dtype)
    settings = {**settings, "k": latents.NEIGHBOUR}
    yield Figure("prior draws in holes", share(codes), settings)
    yield Figure("prior draws in holes, codes from the prior", share(priors[1]), settings)


def _sum_up_posteriors(request: Request, metric: str, real: Collected, made: Collected) -> Iterator[Figure]:
    mean, log_std = torch.cat(real.scores["code"]), torch.cat(real.scores["log_std"])
    for number, kl in enumerate(kl_standard_normal(mean, log_std).double().mean(0).tolist()):
        yield Figure(f"KL of dimension {number}", kl, {"num_samples": real.count})


def _find_factors(request: Request, metric: str, real: Collected, made: Collected) -> Iterator[Figure]:
    gap = latents.mutual_information_gap(torch.cat(real.scores["code"]), torch.cat(real.scores["factors"]))
    settings = {"num_samples": real.count, "bins": latents.BINS}
    yield Figure("MIG", gap.mean, settings)
    for number, of_factor in enumerate(gap.of_factors.tolist()):
        yield Figure(f"MIG of factor {number}", of_factor, settings)


def _rank_anomalies(request: Request, metric: str, real: Collected, made: Collected) -> Iterator[Figure]:
    scores, anomalies = torch.cat(real.scores["anomaly score"]), torch.cat(real.scores["is anomaly"])
    yield Figure("AUROC", auroc(scores, anomalies), {"num_samples": real.count})


def _judge_labels(request: Request, metric: str, real: Collected, made: Collected) -> Iterator[Figure]:
    probabilities, labels = torch.cat(made.scores["label probabilities"]), torch.cat(made.scores["label"])
    settings = {"num_samples": len(labels), **request.sampling}
    if metric == "accuracy":
        share = (probabilities.argmax(1) == labels).double().mean().item()
        yield Figure("label accuracy", share, settings)
        return
    # one class against all others, the mean over classes
    areas = [auroc(probabilities[:, each], labels == each) for each in labels.unique().tolist()]
    yield Figure("label AUROC", sum(areas) / len(areas), settings)


def _count_labels(request: Request, metric: str, real: Collected, made: Collected) -> Iterator[Figure]:
    found, settings = agreement(torch.cat(made.scores["overlaps"])), _of_samples(request, made)
    yield Figure("mean IoU", found.mean_iou, settings)
    yield Figure("mean Dice", found.mean_dice, settings)
    yield Figure("pixel accuracy", found.pixel_accuracy, settings)
    names = request.pipeline.id2label or {}
    for number, name in sorted(names.items()):
        if found.iou[number].isnan():
            continue  # neither there nor predicted
        yield Figure(f"IoU {name}", found.iou[number].item(), settings)
        yield Figure(f"Dice {name}", found.dice[number].item(), settings)


def _mean_depth_errors(request: Request, metric: str, real: Collected, made: Collected) -> Iterator[Figure]:
    settings = {**_of_samples(request, made), "nearest": NEAREST}
    for name in DEPTH_ERRORS:
        errors = torch.cat(made.scores[name])
        if not len(errors):
            raise UserError("depth: no pixel of the targets is above 0, and 0 means that nothing was measured")
        yield Figure(name, errors.mean().item(), settings)


def _sum_up_violations(request: Request, metric: str, real: Collected, made: Collected) -> Iterator[Figure]:
    settings = _of_samples(request, made)
    for name in ("C1", "C2", "C3"):
        of_images = mean_std_median(torch.cat(made.scores[name]))
        yield Figure(name, of_images.mean, settings)
        yield Figure(f"{name} std", of_images.std, settings)
        yield Figure(f"{name} median", of_images.median, settings)


def _sum_up_constraints(request: Request, metric: str, real: Collected, made: Collected) -> Iterator[Figure]:
    settings = _of_samples(request, made)
    yield Figure("constraint MSE", torch.cat(made.scores["mse"]).mean().item(), settings)
    satisfied = torch.cat(made.scores["satisfied"]).mean().item()
    yield Figure("constraints satisfied", satisfied, {**settings, "epsilon": EPSILON})


_REPORTS: dict[Kind, Callable[[Request, str, Collected, Collected], Iterator[Figure]]] = {
    FEATURES: _compare_features,
    TEXTURE: _compare_textures,
    DENSITY: _estimate_density,
    ERROR: _mean_error,
    FEATURE_ERROR: _mean_error,
    LATENTS: _describe_latents,
    POSTERIOR: _sum_up_posteriors,
    FACTORS: _find_factors,
    LIKELIHOOD: _mean_likelihood,
    LABELS: _judge_labels,
    ANOMALY: _rank_anomalies,
    MAPS: _count_labels,
    DEPTH: _mean_depth_errors,
    VIOLATIONS: _sum_up_violations,
    CONSTRAINTS: _sum_up_constraints,
}
