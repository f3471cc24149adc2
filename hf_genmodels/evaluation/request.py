"""What was asked for, and whether the pipeline, the extractor and the data can serve it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import UserError
from ..metrics.extractors import Extractor, load_extractor
from ..metrics.reconstruction import require_lpips, require_torchmetrics
from ..metrics.wasserstein import require_scipy
from ..pipelines.base import GenerativePipeline
from .kinds import ANOMALY, FEATURE_ERROR, FEATURES, KINDS, LABELS, LIKELIHOOD, METRICS, TEXTURES, Kind
from .processes import Processes, Turns

SMALLEST = 4  # precision and recall look at the third neighbour


@dataclass(frozen=True)
class Request:
    """What `evaluate_pipeline` was asked for, once it is known that the pipeline can serve it.

    `anomaly` is the label of the examples that are the anomalies, known once the data are; `has_real_features` says
    that an earlier evaluation has left those of the real data, `is_likelihood_whole` that `sampling` is of the samples
    alone.
    """

    pipeline: GenerativePipeline
    metrics: Sequence[str]
    num_samples: int
    batch_size: int
    extractor: Extractor | None
    seed: int
    progress: bool
    sampling: Mapping[str, Any]
    known_pixels: float
    processes: Processes
    anomaly: int | None = None
    has_real_features: bool = False
    is_likelihood_whole: bool = False

    def of(self, *kinds: Kind) -> list[str]:
        """The metrics asked for that are of these kinds."""
        return [metric for metric in self.metrics if KINDS[metric] in kinds]

    def generator(self) -> torch.Generator:
        """A fresh one, so that no number depends on which others were asked for."""
        return torch.Generator().manual_seed(self.seed)

    @property
    def likelihood_options(self) -> dict[str, Any]:
        """The options of a call that the pipeline's likelihood takes, too."""
        if self.is_likelihood_whole:
            return {}
        return {name: value for name, value in self.sampling.items() if name in self.pipeline.likelihood_options}

    def turns(self, generator: torch.Generator | None = None) -> Turns:
        """A generator that the processes share; a fresh one by default."""
        return Turns(generator or self.generator(), self.processes)


def named_metrics(pipeline: GenerativePipeline, metrics: Sequence[str]) -> list[str]:
    """The metrics, with "auroc" of a class-conditional pipeline that scores no anomalies as that of its labels."""
    knows_labels = pipeline.num_classes is not None and pipeline.has_labelled_classes
    is_of_labels = ANOMALY.served_by.isdisjoint(pipeline.measures) and knows_labels
    return ["label_auroc" if metric == "auroc" and is_of_labels else metric for metric in metrics]


def check_request(
    pipeline: GenerativePipeline,
    metrics: Sequence[str],
    num_samples: int,
    batch_size: int,
    known_pixels: float | None,
) -> None:
    """Refuse what can be refused before any data is read.

    Args:
        pipeline: To be measured.
        metrics: As the user gave them.
        num_samples: The same.
        batch_size: The same.
        known_pixels: The same; None where the user says nothing.

    Raises:
        UserError: A metric is unknown, needs what the pipeline cannot do or a package that is not installed, or a
            number is impossible.
    """
    name = type(pipeline).__name__
    if not metrics:
        raise UserError(f"no metric asked for; choose from {' '.join(METRICS)}")
    for metric in metrics:
        if metric not in METRICS:
            raise UserError(f"unknown metric {metric!r}; choose from {' '.join(METRICS)}")
        kind = KINDS[metric]
        if not kind.can_be_served(pipeline.measures):
            raise UserError(f"{metric} {kind.lacking.format(pipeline=name)}")
        if kind is LIKELIHOOD and pipeline.num_classes is not None:
            raise UserError(
                f"{metric} is not measured of class-conditional models; call log_likelihood with class_labels"
            )
        if kind is LABELS and pipeline.num_classes is None:
            raise UserError(f"{metric} needs samples of classes that are asked for, and this {name} knows no classes")
        if kind is LABELS and not pipeline.has_labelled_classes:
            raise UserError(
                f"{metric} needs classes of labelled data, and the categories of this {name} were found without labels"
            )
        if metric in ("psnr", "ssim"):
            require_torchmetrics(metric)
        if metric == "lpips":
            require_lpips()
        if metric == "wasserstein":
            require_scipy(metric)
    if known_pixels is not None and "completions" not in pipeline.measures:
        raise UserError(f"--known_pixels: a {name} takes no known pixels; leave it out")
    if num_samples < SMALLEST:
        raise UserError(f"num_samples must be at least {SMALLEST}, got {num_samples}")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")


def find_extractor(
    extractor: str | Extractor | None, metrics: Sequence[str], device: torch.device
) -> Extractor | None:
    """The extractor, or None where no metric looks at features.

    Args:
        extractor: As for `load_extractor`, or one that is there already.
        metrics: The metrics asked for.
        device: Where its network is to run.

    Raises:
        UserError: There is none although a metric needs it, or it cannot be loaded, or gives no class probabilities.
    """
    needing = [metric for metric in metrics if KINDS[metric] in (FEATURES, FEATURE_ERROR, LABELS)]
    if not needing:
        return None
    if extractor is None:
        raise UserError(
            f"{needing[0]} needs --extractor: what `hf-genmodels train classifier` made (folder or Hub id), "
            "inception, or pixels"
        )
    found = load_extractor(extractor, device) if isinstance(extractor, str) else extractor
    for metric in needing:
        if (metric == "inception_score" or KINDS[metric] is LABELS) and not found.has_probabilities:
            raise UserError(f"{metric} needs class probabilities, and extractor {found.name} gives none")
    return found


def check_shape(request: Request, shape: tuple[int, ...]) -> None:
    """Refuse what can be refused once the data are known.

    Args:
        request: What was asked for.
        shape: Of one of the examples that samples are compared with.

    Raises:
        UserError: The pipeline makes samples of another shape, or a metric is not for such data.
    """
    pipeline = request.pipeline
    # a translation has the size of what it is made of, which is refused by the call if it does not fit
    if not pipeline.translates and tuple(pipeline.sample_shape) != shape:
        raise UserError(
            f"the pipeline makes samples of shape {tuple(pipeline.sample_shape)}, the data have {shape}; "
            "choose the data set or --resolution it was trained with"
        )
    if len(shape) == 1:
        for metric in ("psnr", "ssim", "lpips"):
            if metric in request.metrics:
                raise UserError(f"{metric} is for images, and the data are vectors of dimension {shape[0]}; use mse")
    if "depth" in request.metrics and shape[0] != 1:
        raise UserError(f"depth is of targets of one channel, these have {shape[0]}; choose --target_image_column")
    noise = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    for metric, compare in TEXTURES.items():
        if metric in request.metrics:
            compare(noise, noise)  # which says what it needs
