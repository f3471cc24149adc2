"""What the benchmarks of training steps share: a loop ready to train, and steps that alternate in one process."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from hf_genmodels.data import LoadedData
from hf_genmodels.families import get_family
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.entry import make_accelerator
from hf_genmodels.training.loop import TrainingLoop


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def make_loop(
    family: str,
    family_args: Any,
    data: LoadedData,
    folder: Path,
    threads: int,
    batch_size: int,
    **training_options: Any,
) -> TrainingLoop:
    """Our loop, ready to train steps of a family in float32; weights drawn with the options' seed."""
    args = TrainingArguments(
        output_dir=str(folder / "out"),
        train_batch_size=batch_size,
        max_train_steps=10**9,
        checkpointing_steps=0,
        num_threads=threads,
        mixed_precision="no",
        **training_options,
    )
    accelerator = make_accelerator(args)
    torch.manual_seed(args.seed)
    loop = TrainingLoop(get_family(family).build(family_args, data.spec), data, args, accelerator)
    loop.prepare(None)
    loop.next_log = loop.total_steps  # a step before a log entry measures gradients: that is part of the entry's cost
    return loop


def interleave(
    runs: dict[str, Callable[[], Any]],
    rounds: int,
    warm_up: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each run in each round; within a round they go one after the other, every second round backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with quiet():
        for run in runs.values():
            for _ in range(warm_up):
                run()
        for index in range(rounds):
            for name in list(runs)[:: -1 if index % 2 else 1]:
                start = clock()
                runs[name]()
                seconds[name].append(clock() - start)
    return seconds


def report(seconds: dict[str, list[float]], pairs: list[tuple[str, str]]) -> None:
    """Print medians, and of each pair the median and the quartiles of the rounds' ratios."""
    for name, values in seconds.items():
        print(f"{name}: {1000 * statistics.median(values):.2f} ms")
    for ours, theirs in pairs:
        ratios = [a / b for a, b in zip(seconds[ours], seconds[theirs], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{ours} / {theirs} = {middle:.3f} (quartiles {low:.3f}, {high:.3f})")


def report_log_cost(loop: TrainingLoop, step_seconds: list[float], rounds: int = 5) -> None:
    """Print what writing a log entry every --log_steps steps adds to a step."""

    def log() -> None:
        loop.flush_losses()
        loop.health()

    (seconds,) = interleave({"log": log}, rounds).values()
    share = statistics.median(seconds) / loop.args.log_steps / statistics.median(step_seconds)
    print(f"a log entry every {loop.args.log_steps} steps adds {100 * share:.2f} % to a step")
