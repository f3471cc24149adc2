"""One pass over the real data and over what the pipeline makes: values, features, numbers for each example."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor
from tqdm.auto import tqdm

from ..errors import UserError
from .compared import Answers, completion_turns, completions, real_batches, translations
from .folder import FolderOfImages
from .kinds import (
    ANOMALY,
    DENSITY,
    ERROR,
    ERRORS,
    FACTORS,
    FEATURE_ERROR,
    FEATURES,
    LABELS,
    LATENTS,
    LIKELIHOOD,
    POSTERIOR,
    TEXTURE,
)
from .processes import Turns, check_turns
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
        seen: `Turns.seen` of all that was drawn from.
    """

    values: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    probabilities: list[Tensor] = field(default_factory=list)
    scores: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    count: int = 0
    seen: list[dict[int, tuple[str, str]]] = field(default_factory=list)

    def add(self, examples: Tensor, request: Request, has_features: bool = False) -> None:
        """Keep of a batch what the metrics look at; `has_features` where the features are there."""
        self.count += len(examples)
        if request.of(TEXTURE, DENSITY):
            self.values.append(examples.float().cpu())
        if request.extractor is not None and not has_features:
            features, probabilities = request.extractor(examples)
            self.features.append(features.float())
            if probabilities is not None:
                self.probabilities.append(probabilities.float())

    def to_cpu(self) -> Collected:
        """The same, with all in main memory: once, for a GPU need not wait for a copy after each batch."""
        self.features = [each.cpu() for each in self.features]
        self.probabilities = [each.cpu() for each in self.probabilities]
        return self


def joined(parts: Sequence[Collected]) -> Collected:
    """What several processes have collected, in the order of the batches.

    Raises:
        UserError: What they drew at random is not what one would have drawn.
    """
    if len(parts) == 1:
        return parts[0]
    whole = Collected(
        _in_turn([each.values for each in parts]),
        _in_turn([each.features for each in parts]),
        _in_turn([each.probabilities for each in parts]),
        count=sum(each.count for each in parts),
    )
    for name in parts[0].scores:
        whole.scores[name] = _in_turn([each.scores.get(name, []) for each in parts])
    for seen in zip(*(each.seen for each in parts), strict=True):
        check_turns(list(seen))
    return whole


def _in_turn(parts: Sequence[list[Tensor]]) -> list[Tensor]:
    """The batches of several processes, of which batch k is in part k modulo their number."""
    return [batch for row in itertools.zip_longest(*parts) for batch in row if batch is not None]


def collect(request: Request, dataset: Any, where: str) -> tuple[Collected, Collected]:
    """What the real data leave, and what the pipeline made; of several processes, this one's batches.

    Args:
        request: What was asked for.
        dataset: As `layout_of` says.
        where: The split and the data set, in words.

    Raises:
        UserError: The split is empty, or the pipeline refuses the images.
    """
    if request.pipeline.translates:
        return _collect_answers(request, translations(request, dataset))
    if "completions" in request.pipeline.measures:
        turns = completion_turns(request)
        real, made = _collect_answers(request, completions(request, dataset, turns))
        made.seen = [each.seen for each in turns]
        return real, made
    real = _collect_real(request, dataset)
    if not real.count and request.processes.is_main and not request.has_real_features:
        raise UserError(f"split {where} is empty")
    return real, _collect_samples(request)


def _bar(request: Request, what: str) -> tqdm[Any]:
    shown = request.progress and request.processes.is_main
    return tqdm(total=request.num_samples, desc=what, unit="example", disable=not shown)


def _collect_real(request: Request, dataset: Any) -> Collected:
    """One pass over the real data: features, reconstruction errors, likelihoods."""
    real, pipeline, size = Collected(), request.pipeline, request.batch_size
    errors, likelihoods, anomalies = (request.turns() for _ in range(3))
    real.seen = [errors.seen, likelihoods.seen, anomalies.seen]
    of_images = (TEXTURE, DENSITY, ERROR, FEATURE_ERROR, LATENTS, POSTERIOR, FACTORS, ANOMALY, LIKELIHOOD)
    if request.has_real_features and not request.of(*of_images):
        return real

    def anomaly_score(batch: Tensor, generator: Generator) -> Tensor:
        options = {"generator": generator} if pipeline.random_anomaly_scores else {}
        return pipeline.anomaly_score(batch, **options)

    def log_likelihood(batch: Tensor, generator: Generator) -> Tensor:
        return pipeline.log_likelihood(batch, generator=generator, **request.likelihood_options)

    with _bar(request, "real") as bar:
        for number, batch, labels, factors in real_batches(request, dataset):
            real.add(batch, request, request.has_real_features)
            _score_reconstructions(request, number, batch, errors, real)
            _keep_codes(request, batch, factors, real)
            if request.of(ANOMALY):
                if labels is None or request.anomaly is None:
                    raise UserError(NO_LABELS)
                scores = anomalies.run(number, batch, size, anomaly_score)
                real.scores["anomaly score"].append(scores.double().cpu())
                real.scores["is anomaly"].append(labels == request.anomaly)
            if request.of(LIKELIHOOD):
                found = likelihoods.run(number, batch, size, log_likelihood)
                real.scores["nll"].append(-found.double().cpu())
            bar.update(len(batch) * request.processes.number)
        bar.total = bar.n
    return real


def _score_reconstructions(request: Request, number: int, images: Tensor, turns: Turns, real: Collected) -> None:
    """Add each example's reconstruction errors, where asked for."""
    wanted = request.of(ERROR, FEATURE_ERROR)
    if not wanted:
        return

    def reconstruct(images: Tensor, generator: Generator) -> Tensor:
        options = {"generator": generator} if request.pipeline.random_reconstructions else {}
        decoded: Tensor = request.pipeline.reconstruct(images, output_type="pt", **options).images
        return decoded

    decoded = turns.run(number, images, request.batch_size, reconstruct).cpu()
    _score_pairs(request, images, decoded, real)


def _score_pairs(request: Request, images: Tensor, made: Tensor, into: Collected) -> None:
    """Add how far each image is from the one that was made for it, where asked for."""
    for metric in request.of(ERROR):
        into.scores[metric].append(ERRORS[metric](images, made).double())
    for metric in request.of(FEATURE_ERROR):
        assert request.extractor is not None  # `find_extractor`
        apart = request.extractor(images).features.double() - request.extractor(made).features.double()
        into.scores[metric].append(apart.norm(dim=1).cpu())


def _keep_codes(request: Request, images: Tensor, factors: Tensor | None, real: Collected) -> None:
    """Add each image's code, and what q(z|x) and the data say beside it, where a metric looks at them."""
    if not request.of(LATENTS, POSTERIOR, FACTORS):
        return
    pipeline: Any = request.pipeline
    if "posteriors" in pipeline.measures:
        codes, log_std = pipeline.posterior(images)
        real.scores["log_std"].append(log_std.double().cpu())
    else:
        codes = pipeline.encode(images)
    real.scores["code"].append(codes.double().cpu())
    if factors is not None:
        real.scores["factors"].append(factors)


def _collect_samples(request: Request) -> Collected:
    """As many samples as asked for, or none where no metric looks at them."""
    made = Collected()
    if request.of(LABELS):
        _collect_labelled(request, made)
    if not request.of(FEATURES, TEXTURE, DENSITY):
        return made
    if isinstance(request.pipeline, FolderOfImages):
        for batch in real_batches(request, request.pipeline.dataset):
            made.add(batch.examples, request)
        return made
    turns, size = request.turns(), request.batch_size
    made.seen.append(turns.seen)

    def sample(places: Tensor, generator: Generator) -> Tensor:
        options = {**request.sampling, "batch_size": len(places), "generator": generator}
        images: Tensor = request.pipeline(**options, output_type="pt").images
        return images

    places = torch.arange(request.num_samples).split(size)
    with _bar(request, "samples") as bar:
        for number in range(request.processes.rank, len(places), request.processes.number):
            made.add(turns.run(number, places[number], size, sample), request)
            bar.update(min(len(places[number]) * request.processes.number, bar.total - bar.n))
    return made


def _collect_labelled(request: Request, made: Collected) -> None:
    """Samples of the classes in turn, apart from those of other metrics: what the extractor takes each for."""
    pipeline, extractor = request.pipeline, request.extractor
    assert extractor is not None and pipeline.num_classes is not None  # `check_request`, `find_extractor`
    turns, size = request.turns(), request.batch_size
    made.seen.append(turns.seen)

    def sample(labels: Tensor, generator: Generator) -> Tensor:
        images: Tensor = pipeline(
            **request.sampling, class_labels=labels.tolist(), generator=generator, output_type="pt"
        ).images
        return images

    batches = (torch.arange(request.num_samples) % pipeline.num_classes).split(size)
    with _bar(request, "samples of classes") as bar:
        for number in range(request.processes.rank, len(batches), request.processes.number):
            probabilities = extractor(turns.run(number, batches[number], size, sample)).probabilities
            if probabilities is None or probabilities.shape[1] != pipeline.num_classes:
                known = 0 if probabilities is None else probabilities.shape[1]
                raise UserError(
                    f"the model knows {pipeline.num_classes} classes and extractor {extractor.name} {known}: give a "
                    "classifier that was trained on the model's data"
                )
            made.scores["label probabilities"].append(probabilities.double().cpu())
            made.scores["label"].append(batches[number])
            bar.update(min(len(batches[number]) * request.processes.number, bar.total - bar.n))


def _collect_answers(request: Request, answers: Iterable[Answers]) -> tuple[Collected, Collected]:
    """One pass over what a pipeline makes of images, and over what that is compared with."""
    real, made = Collected(), Collected()
    with _bar(request, "images") as bar:
        for batch in answers:
            if batch.real is not None:
                real.add(batch.real, request)
            if batch.made is not None:
                made.add(batch.made, request)
                bar.update(len(batch.made) * request.processes.number)
            for name, values in batch.scores.items():
                made.scores[name].append(values.double().cpu())
            if request.of(ERROR, FEATURE_ERROR):
                assert batch.real is not None and batch.made is not None  # pairs: `layout_of`
                _score_pairs(request, batch.real, batch.made, real)
        bar.total = bar.n
    return real, made
