"""Looks at a trained model: the training images nearest to its samples, how its codes lie, and holes among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args

import torch
from PIL import Image
from torch import Tensor

from .checks import check_choice
from .errors import UserError
from .metrics.extractors import Extractor
from .metrics.latents import holes
from .pipelines.base import GenerativePipeline
from .plots import image_grid, scatter, stack_pictures

Projection = Literal["pca", "tsne"]
PROJECTIONS: tuple[str, ...] = get_args(Projection)
PERPLEXITY = 30
BATCH = 250
MOST_CODES = 5000  # of t-SNE, whose time grows faster than their number


class Nearest(NamedTuple):
    """The nearest of many images to each of a few.

    Attributes:
        distances: (queries,), Euclidean.
        images: (queries, channels, height, width).
    """

    distances: Tensor
    images: Tensor


def nearest(queries: Tensor, batches: Iterable[Tensor], look: Callable[[Tensor], Tensor]) -> Nearest:
    """Find the nearest image to each query: exact, every image is compared, a batch at a time, in float64.

    Args:
        queries: (queries, channels, height, width) in [0, 1].
        batches: The images to find it among, of the same shape; of equally near ones the first is found.
        look: What is compared: (batch, ...) -> (batch, dim).

    Raises:
        UserError: There are no images.
    """
    of_queries = look(queries).double()
    distances = torch.full((len(queries),), torch.inf, dtype=torch.float64)
    images = torch.zeros_like(queries)
    for batch in batches:
        # not by products of matrices, which lose the digits of small distances
        found = torch.cdist(of_queries, look(batch).double(), compute_mode="donot_use_mm_for_euclid_dist").cpu()
        least, index = found.min(1)
        nearer = least < distances
        distances[nearer] = least[nearer]
        images[nearer] = batch.to(images)[index[nearer]]
    if not distances.isfinite().all():
        raise UserError("there are no training images to look for the nearest one among")
    return Nearest(distances, images)


def nearest_training_images(
    samples: Tensor,
    held_out: Tensor | None,
    batches: Callable[[], Iterator[Tensor]],
    extractor: Extractor | None = None,
) -> tuple[Image.Image, list[dict[str, Any]]]:
    """Samples above their nearest training images: those of a model that has learnt images by heart are the same.

    Args:
        samples: (samples, channels, height, width) in [0, 1].
        held_out: Images that were not learnt from, of the same shape, for comparison.
        batches: Gives all training images, anew at each call.
        extractor: Look for the nearest one in its features, too.

    Returns:
        The picture, and figures as `evaluate_pipeline` gives them: the mean distance of the samples and of the
        held-out images to their nearest training image. Samples that are much nearer have been copied.
    """
    looks: dict[str, Callable[[Tensor], Tensor]] = {"pixels": lambda images: images.flatten(1).float()}
    if extractor is not None and extractor.name != "pixels":
        looks[f"features of {extractor.name}"] = lambda images: extractor(images).features
    queries = samples if held_out is None else torch.cat([samples, held_out])
    pictures = {"samples": image_grid(samples, columns=len(samples))}
    figures = []
    for name, look in looks.items():
        found = nearest(queries, batches(), look)
        shown = found.images[: len(samples)]
        pictures[f"nearest training images, {name}"] = image_grid(shown, columns=len(samples))
        parts = {"samples": found.distances[: len(samples)], "held-out images": found.distances[len(samples) :]}
        for part, distances in parts.items():
            if len(distances):
                figure = f"nearest training image, {part}, {name}"
                settings = {"num_samples": len(distances)}
                figures.append({"name": figure, "value": distances.mean().item(), "settings": settings})
    return stack_pictures(pictures), figures


def codes_of(pipeline: GenerativePipeline, batches: Iterable[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor | None]:
    """The codes of images, (images, dim), and their labels, where there are any.

    Args:
        pipeline: One that has `encode` among its `tasks`.
        batches: "image" in [-1, 1], or points, and perhaps "label".

    Raises:
        UserError: The pipeline has no encoder.
    """
    if "encode" not in pipeline.tasks:
        raise UserError(f"a {type(pipeline).__name__} has no encoder, and so no codes to show")
    encode: Any = pipeline.encode
    codes, labels = [], []
    for batch in batches:
        image = batch["image"]
        codes.append(encode((image + 1) / 2 if image.ndim == 4 else image).flatten(1).float().cpu())
        if "label" in batch:
            labels.append(batch["label"])
    return torch.cat(codes), torch.cat(labels) if labels else None


def project(codes: Tensor, projection: Projection, seed: int = 0) -> Tensor:
    """Codes -> points of the plane, (images, 2); those of two dimensions stay as they are.

    Args:
        codes: (images, dim).
        projection: "pca": the two directions in which they vary most. "tsne": t-SNE (van der Maaten & Hinton 2008),
            which keeps near ones near; distances between groups mean nothing.
        seed: Of "tsne".

    Raises:
        UserError: Too few codes, or codes of one dimension; "tsne" without scikit-learn or of too many codes.
    """
    check_choice("projection", projection, PROJECTIONS)
    if len(codes) < 4 or codes.shape[1] < 2:
        raise UserError(f"{len(codes)} codes of dimension {codes.shape[1]}: there is no plane to show them in")
    if codes.shape[1] == 2:
        return codes
    if projection == "pca":
        centred = codes.double() - codes.double().mean(0)
        directions = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
        # a direction and its opposite explain the same: the one whose largest entry is positive
        signs = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
        return (centred @ (signs * directions).T).float()
    if len(codes) > MOST_CODES:
        raise UserError(f"t-SNE of {len(codes)} codes takes too long: at most {MOST_CODES}, see --num_codes")
    try:
        from sklearn.manifold import TSNE
    except ModuleNotFoundError:
        raise UserError("tsne needs scikit-learn: pip install hf_genmodels[builtin]") from None
    perplexity = min(PERPLEXITY, (len(codes) - 1) / 3)
    found = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(codes.double().numpy())
    return torch.from_numpy(found).float()


def picture_of_codes(codes: Tensor, labels: Tensor | None, projections: Iterable[Projection]) -> Image.Image:
    """Codes as points of the plane, coloured by label, a picture for each projection, see `project`."""
    kinds = {"pca": "PCA", "tsne": f"t-SNE, perplexity {PERPLEXITY}"}
    pictures = {}
    for projection in projections:
        name = kinds[projection] if codes.shape[1] > 2 else "as they are"
        pictures[f"{len(codes)} codes of {codes.shape[1]} dimensions, {name}"] = scatter(
            project(codes, projection), labels
        )
    return stack_pictures(pictures)


def picture_of_holes(
    pipeline: GenerativePipeline, images: Tensor, generator: torch.Generator, shown: int = 12
) -> Image.Image:
    """Draws from the aggregate posterior and from the prior in one plane, and what is decoded where no codes are.

    The aggregate posterior is q(z|x) of a random image x (a code itself, of a deterministic encoder). The plane is
    that in which all draws vary most; which prior draws lie in holes is found in all dimensions, see
    `metrics.latents.holes`.

    Args:
        pipeline: One whose `measures` have "latents".
        images: (images, channels, height, width) in [0, 1], or points.
        generator: Of the draws.
        shown: How many prior draws are decoded, of those that lie farthest from codes and of the others.

    Raises:
        UserError: The pipeline has no encoder or no prior over its codes, or there are too few codes.
    """
    if "latents" not in pipeline.measures:
        raise UserError(f"a {type(pipeline).__name__} has no encoder with a prior over its codes, and so no holes")
    of_pipeline: Any = pipeline
    if "posteriors" in pipeline.measures:
        of_parts = [of_pipeline.posterior(part) for part in images.split(BATCH)]
        mean, log_std = (torch.cat(each).cpu() for each in zip(*of_parts, strict=True))
        codes = mean + torch.exp(log_std) * torch.randn(mean.shape, generator=generator)
    else:
        codes = torch.cat([of_pipeline.encode(part) for part in images.split(BATCH)]).cpu()
    prior = of_pipeline.prior_latents(len(codes), generator, None).cpu()
    in_hole = holes(codes, prior)
    kinds = torch.cat([torch.zeros(len(codes)), 1 + in_hole.float()]).long()
    points = project(torch.cat([codes, prior]).float(), "pca")
    share = f"{in_hole.float().mean():.1%}"
    pictures = {f"0: codes, 1: prior draws, 2: those in holes ({share})": scatter(points, kinds)}
    if len(pipeline.sample_shape) == 3:
        far = torch.cdist(prior.double(), codes.double()).amin(1).argsort(descending=True)
        parts = {"decoded in holes, the farthest first": far[in_hole[far]], "decoded near codes": far[~in_hole[far]]}
        for name, places in parts.items():
            if len(places):
                decoded = pipeline.finish(of_pipeline.network_decode(prior[places[:shown]].to(codes)), "pt", False)[0]
                pictures[name] = image_grid(decoded, columns=shown)
    return stack_pictures(pictures)
