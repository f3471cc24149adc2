"""The metrics: what they look at, which pipelines can serve them, and what is said of those that cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..metrics import reconstruction, texture
from ..pipelines.base import Measure

# Of an image and the one that was made for it, (batch,) each.
ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": reconstruction.mse,
    "psnr": reconstruction.psnr,
    "ssim": reconstruction.ssim,
    "lpips": reconstruction.lpips,
}
# Of two sets of images.
TEXTURES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "hog": texture.hog_distance,
    "lbp": texture.lbp_distance,
}


@dataclass(frozen=True)
class Kind:
    """Metrics that look at the same things.

    Attributes:
        metrics: Their names.
        served_by: A pipeline can serve them if any of these is among its `measures`.
        lacking: What is said of one that cannot, after the metric's name; `{pipeline}` stands for its class.
    """

    metrics: tuple[str, ...]
    served_by: frozenset[Measure]
    lacking: str

    def can_be_served(self, measures: frozenset[Measure]) -> bool:
        """Whether a pipeline of which so much can be measured will do."""
        return not self.served_by.isdisjoint(measures)


NO_SAMPLES = "needs samples, and {pipeline} cannot sample by itself"
FEATURES = Kind(
    ("fid", "kid", "precision_recall", "swd", "wasserstein", "inception_score"),
    frozenset({"samples", "translations", "completions"}),
    NO_SAMPLES,
)
TEXTURE = Kind(tuple(TEXTURES), FEATURES.served_by, NO_SAMPLES)
DENSITY = Kind(("parzen",), frozenset({"samples", "translations"}), NO_SAMPLES)
ERROR = Kind(
    tuple(ERRORS),
    frozenset({"reconstructions", "translations"}),
    "needs reconstructions, and {pipeline} has no reconstruct()",
)
FEATURE_ERROR = Kind(("feature_distance",), ERROR.served_by, ERROR.lacking)
LATENTS = Kind(
    ("latents",), frozenset({"latents"}), "needs an encoder and a prior over its codes, {pipeline} has none"
)
POSTERIOR = Kind(
    ("kl_per_dimension",), frozenset({"posteriors"}), "needs an encoder that gives q(z|x), and {pipeline} has none"
)
FACTORS = Kind(("mig",), frozenset({"codes"}), "needs an encoder, and {pipeline} has none")
LIKELIHOOD = Kind(
    ("nll", "bpd"), frozenset({"likelihood"}), "needs likelihoods, and {pipeline} has no log_likelihood()"
)
LABELS = Kind(("accuracy", "label_auroc"), frozenset({"samples"}), NO_SAMPLES)
ANOMALY = Kind(("auroc",), frozenset({"anomalies"}), "needs anomaly scores, and {pipeline} has no anomaly_score()")
MAPS = Kind(("miou",), frozenset({"label_maps"}), "needs label maps, and {pipeline} makes none")
DEPTH = Kind(("depth",), frozenset({"translations"}), "needs translations, and {pipeline} makes none")
VIOLATIONS = Kind(("violations",), frozenset({"violations"}), "needs polarimetric images, and {pipeline} makes none")
CONSTRAINTS = Kind(("constraints",), frozenset({"completions"}), "needs known pixels, and {pipeline} takes none")
KINDS = {
    metric: kind
    for kind in (
        *(FEATURES, TEXTURE, DENSITY, ERROR, FEATURE_ERROR, LATENTS, POSTERIOR, FACTORS, LIKELIHOOD, LABELS, ANOMALY),
        *(MAPS, DEPTH, VIOLATIONS, CONSTRAINTS),
    )
    for metric in kind.metrics
}
METRICS = tuple(KINDS)
# Figures of which the largest is the best; of all others the smallest.
MORE_IS_BETTER = (
    *("precision", "recall", "inception score", "label entropy", "Parzen log-likelihood"),
    *("label accuracy", "label AUROC", "AUROC", "PSNR", "SSIM", "MIG"),
)
