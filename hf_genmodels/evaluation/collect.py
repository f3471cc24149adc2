"""One pass over the real data and over what the pipeline makes: values, features, numbers for each example."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Generator, Tensor
from tqdm.auto import tqdm

from ..errors import UserError
from .compared import Answers, completions, labelled_batches, real_batches, translations
from .folder import FolderOfImages
from .kinds import ANOMALY, DENSITY, ERROR, ERRORS, FEATURES, LIKELIHOOD, TEXTURE
from .request import Request

NO_LABELS = "auroc needs labels, and the data have none; name the column with --label_column"


@dataclass
class Collected:
    """What one pass leaves of the real data, or of what was made.

    Attributes:
        values: Batches of the examples themselves, where a metric looks at them.
        features: The extractor's, where a metric looks at them.
        probabilities: The extractor's, where it gives any.
        scores: Numbers for each example, batches of (batch,) by name.
        count: Examples.
    """

    values: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    probabilities: list[Tensor] = field(default_factory=list)
    scores: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    count: int = 0

    def add(self, examples: Tensor, request: Request) -> None:
        """Keep of a batch what the metrics look at."""
        self.count += len(examples)
        if request.of(TEXTURE, DENSITY):
            self.values.append(examples.float().cpu())
        if request.extractor is not None:
            features, probabilities = request.extractor(examples)
            self.features.append(features.float().cpu())
            if probabilities is not None:
                self.probabilities.append(probabilities.float().cpu())


def collect(request: Request, dataset: Any, where: str) -> tuple[Collected, Collected]:
    """What the real data leave, and what the pipeline made.

    Args:
        request: What was asked for.
        dataset: As `layout_of` says.
        where: The split and the data set, in words.

    Raises:
        UserError: The split is empty, or the pipeline refuses the images.
    """
    if "translations" in request.pipeline.measures:
        return _collect_answers(request, translations(request, dataset))
    if "completions" in request.pipeline.measures:
        return _collect_answers(request, completions(request, dataset))
    real = _collect_real(request, dataset)
    if not real.count:
        raise UserError(f"split {where} is empty")
    return real, _collect_samples(request)


def _collect_real(request: Request, dataset: Any) -> Collected:
    """One pass over the real data: features, reconstruction errors, likelihoods."""
    real = Collected()
    generators = {kind: request.generator() for kind in (ERROR, LIKELIHOOD, ANOMALY)}
    with tqdm(total=request.num_samples, desc="real", unit="example", disable=not request.progress) as bar:
        for batch, labels in labelled_batches(request, dataset):
            real.add(batch, request)
            _score_reconstructions(request, batch, generators[ERROR], real)
            if request.of(ANOMALY):
                if labels is None or request.anomaly is None:
                    raise UserError(NO_LABELS)
                options = {"generator": generators[ANOMALY]} if request.pipeline.random_anomaly_scores else {}
                real.scores["anomaly score"].append(request.pipeline.anomaly_score(batch, **options).double().cpu())
                real.scores["is anomaly"].append(labels == request.anomaly)
            if request.of(LIKELIHOOD):
                log_likelihood = request.pipeline.log_likelihood(batch, generator=generators[LIKELIHOOD])
                real.scores["nll"].append(-log_likelihood.double().cpu())
            bar.update(len(batch))
        bar.total = bar.n
    return real


def _score_reconstructions(request: Request, images: Tensor, generator: Generator, real: Collected) -> None:
    """Add each example's reconstruction errors, where asked for."""
    wanted = request.of(ERROR)
    if not wanted:
        return
    options = {"generator": generator} if request.pipeline.random_reconstructions else {}
    decoded = request.pipeline.reconstruct(images, output_type="pt", **options).images.cpu()
    for metric in wanted:
        real.scores[metric].append(ERRORS[metric](images, decoded).double())


def _collect_samples(request: Request) -> Collected:
    """As many samples as asked for, or none where no metric looks at them."""
    made = Collected()
    if not request.of(FEATURES, TEXTURE, DENSITY):
        return made
    if isinstance(request.pipeline, FolderOfImages):
        for batch in real_batches(request, request.pipeline.dataset):
            made.add(batch, request)
        return made
    generator = request.generator()
    with tqdm(total=request.num_samples, desc="samples", unit="example", disable=not request.progress) as bar:
        while made.count < request.num_samples:
            number = min(request.batch_size, request.num_samples - made.count)
            options = {**request.sampling, "batch_size": number, "generator": generator}
            made.add(request.pipeline(**options, output_type="pt").images, request)
            bar.update(number)
    return made


def _collect_answers(request: Request, answers: Iterable[Answers]) -> tuple[Collected, Collected]:
    """One pass over what a pipeline makes of images, and over what that is compared with."""
    real, made = Collected(), Collected()
    with tqdm(total=request.num_samples, desc="images", unit="example", disable=not request.progress) as bar:
        for batch in answers:
            if batch.real is not None:
                real.add(batch.real, request)
            if batch.made is not None:
                made.add(batch.made, request)
                bar.update(len(batch.made))
            for name, values in batch.scores.items():
                made.scores[name].append(values.double().cpu())
            for metric in request.of(ERROR):
                assert batch.real is not None and batch.made is not None  # pairs: `layout_of`
                real.scores[metric].append(ERRORS[metric](batch.real, batch.made).double())
        bar.total = bar.n
    return real, made
