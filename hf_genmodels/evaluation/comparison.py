"""Several models by the same figures on the same data, and by the time that a sample takes: the trilemma as a table.

Xiao et al. 2022 (arXiv 2112.07804) call it the trilemma of generative learning: quality, diversity, and speed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..data import DataArguments
from ..errors import UserError
from ..metrics.extractors import Extractor
from ..pipelines.base import GenerativePipeline
from .evaluate import evaluate_pipeline
from .kinds import MORE_IS_BETTER
from .request import check_request, find_extractor, named_metrics

SECONDS, PARAMETERS = "seconds a sample", "parameters"


@dataclass(frozen=True)
class Contestant:
    """A model and the options with which it samples.

    Attributes:
        name: What the table calls it.
        pipeline: The model.
        sampling: Some of the pipeline's `sampling_options`.
    """

    name: str
    pipeline: GenerativePipeline
    sampling: Mapping[str, Any] = field(default_factory=dict)


def compare(
    contestants: Sequence[Contestant],
    data_args: DataArguments,
    *,
    split: str | None,
    metrics: Sequence[str],
    num_samples: int,
    batch_size: int,
    extractor: str | Extractor | None,
    seed: int,
    repeats: int = 5,
    progress: bool = True,
) -> dict[str, Any]:
    """Measure several models alike: the same data, extractor, seed and number of samples, and the time of a sample.

    Args:
        contestants: Models that sample, all for data of the same shape.
        data_args: As for `evaluate_pipeline`, like the next six.
        split: See there.
        metrics: See there.
        num_samples: See there.
        batch_size: Also of the calls that are timed.
        extractor: See there.
        seed: See there.
        repeats: Timed calls of each model, see `seconds_a_sample`.
        progress: Show progress bars.

    Returns:
        {"models": [{"name", "sampling", "parameters", "seconds a sample", "figures": {name: value}}, ...], "settings":
        what all the figures share, "timing": how the seconds were measured}.

    Raises:
        UserError: Fewer than two models, one that does not sample, two of one name, a metric that stands for different
            figures of two models, or see `evaluate_pipeline`; all before anything is sampled.
    """
    check(contestants, repeats)
    device = contestants[0].pipeline.device
    meant = [named_metrics(each.pipeline, metrics) for each in contestants]
    for each, names in zip(contestants, meant, strict=True):
        check_request(each.pipeline, names, num_samples, batch_size, None)
        if names != meant[0]:
            kinds = f"of labels for one of {contestants[0].name} and {each.name}, of anomalies for the other"
            raise UserError(f"--metrics auroc is {kinds}; leave it out")
    found = find_extractor(extractor, meant[0], device)
    models: list[dict[str, Any]] = []
    settings: dict[str, Any] = {}
    for each in contestants:
        results = evaluate_pipeline(
            each.pipeline,
            data_args,
            split=split,
            metrics=metrics,
            num_samples=num_samples,
            batch_size=batch_size,
            extractor=found,
            seed=seed,
            progress=progress,
            sampling=each.sampling,
        )
        settings = {name: value for name, value in results[0]["settings"].items() if name not in each.sampling}
        figures = {result["name"]: result["value"] for result in results}
        models.append({"name": each.name, "sampling": dict(each.sampling), "figures": figures})
    seconds = seconds_a_sample(contestants, batch_size, seed, repeats)
    for model, each in zip(models, contestants, strict=True):
        model |= {SECONDS: seconds[each.name], PARAMETERS: parameters(each.pipeline)}
    timing = {
        "batch_size": batch_size,
        "repeats": repeats,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    return {"models": models, "settings": settings, "timing": timing}


def check(contestants: Sequence[Contestant], repeats: int) -> None:
    """Refuse what cannot be compared, before anything is measured.

    Raises:
        UserError: One line that says what.
    """
    names = [each.name for each in contestants]
    if len(names) < 2:
        raise UserError("compare needs two models or more; `hf-genmodels evaluate` measures one")
    if repeats < 1:
        raise UserError(f"--repeats must be at least 1, got {repeats}")
    for each in contestants:
        if "samples" not in each.pipeline.measures:
            kind = type(each.pipeline).__name__
            raise UserError(
                f"{each.name} is a {kind}, which does not sample by itself: only models that do are compared"
            )
        if names.count(each.name) > 1:
            raise UserError(f"two models are called {each.name}: copy one to a folder of another name")
        first, shape = contestants[0], tuple(each.pipeline.sample_shape)
        if shape != tuple(first.pipeline.sample_shape):
            raise UserError(
                f"{each.name} makes samples of shape {shape}, {first.name} of {tuple(first.pipeline.sample_shape)}: "
                "only models for the same data are compared"
            )


@torch.no_grad()
def seconds_a_sample(contestants: Sequence[Contestant], batch_size: int, seed: int, repeats: int) -> dict[str, float]:
    """Median time of calls for a batch over the batch's size, by the models' names.

    The first call of each is not timed. After that they take turns, so that what else the machine does meanwhile
    falls to all of them.
    """
    times: dict[str, list[float]] = {each.name: [] for each in contestants}
    for turn in range(repeats + 1):
        for each in contestants:
            generator = torch.Generator().manual_seed(seed + turn)
            _wait(each.pipeline.device)
            started = time.perf_counter()
            each.pipeline(**each.sampling, batch_size=batch_size, generator=generator, output_type="pt")
            _wait(each.pipeline.device)
            times[each.name].append(time.perf_counter() - started)
    return {name: statistics.median(each[1:]) / batch_size for name, each in times.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def parameters(pipeline: GenerativePipeline) -> int:
    """Parameters of all its networks."""
    networks = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def markdown(comparison: Mapping[str, Any]) -> str:
    """The table of what `compare` returned, the best of each column in bold, and below it how it was made."""
    models = comparison["models"]
    columns = [*models[0]["figures"], SECONDS]
    rows = {model["name"]: {**model["figures"], SECONDS: model[SECONDS]} for model in models}
    lines = [
        f"| Model | Sampling | Parameters | {' | '.join(columns)} |",
        f"|--|--|--|{'--|' * len(columns)}",
    ]
    best = {name: _best(name)(row[name] for row in rows.values()) for name in columns}
    for model in models:
        row = rows[model["name"]]
        cells = [f"**{row[name]:.3g}**" if row[name] == best[name] else f"{row[name]:.3g}" for name in columns]
        sampling = ", ".join(f"{name} {value}" for name, value in model["sampling"].items()) or "-"
        name = model["name"].replace("|", "\\|")
        lines.append(f"| {name} | {sampling} | {model[PARAMETERS] / 1e6:.2f} M | {' | '.join(cells)} |")
    settings = ", ".join(f"{name} {value}" for name, value in comparison["settings"].items() if value is not None)
    timing = comparison["timing"]
    lines += [
        "",
        f"Figures: {settings}. Seconds: median of {timing['repeats']} calls for {timing['batch_size']} samples, the "
        f"models in turns, after one call each that is not counted; {timing['device']}, {timing['threads']} "
        f"thread(s), torch {timing['torch']}.",
        "",
    ]
    return "\n".join(lines)


def _best(name: str) -> Any:
    return max if name in MORE_IS_BETTER else min
