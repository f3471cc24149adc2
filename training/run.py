"""What a run has whatever it does: a history, logs, held-out figures, pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import ModelMixin
from torch import Tensor

from hf_genmodels.data import LoadedData, evaluation_batches
from hf_genmodels.data.placing import Place
from hf_genmodels.errors import UserError
from hf_genmodels.keyed import noise_seed
from hf_genmodels.objectives.base import Batch, Objective

from . import checkpointing
from .arguments import TrainingArguments
from .fast import lay_out
from .health import is_diagnostic
from .outputs import save_model, save_sample_grid
from .stopping import StopSignals
from .together import gather, together

NUM_SAMPLES_SHOWN = 32
NUM_POINTS_SHOWN = 2000  # a cloud of points has a shape only when there are many


class Run(ABC):
    """Sets an objective's networks by what `learn` does, and measures and shows what came out.

    Args:
        objective: The family's networks and losses.
        data: Training and held-out examples.
        args: Options.
        accelerator: Made with the options' precision and trackers.

    Attributes:
        step: Steps taken.
        total_steps: Steps of the whole run.
        history: (step, value) of every figure that was logged, by name.
        seconds: Time that learning has taken, before a resumption too.
        warning: What must be said of the result, if anything.
        channels_last: Whether images lie in memory with the channels of a pixel beside each other.
        stop_signals: Whether it has been told to stop.
        writes: Whether this process writes what is written once on every disk.
    """

    def __init__(
        self, objective: Objective, data: LoadedData, args: TrainingArguments, accelerator: Accelerator
    ) -> None:
        self.objective, self.data, self.args, self.accelerator = objective, data, args, accelerator
        self.networks: dict[str, ModelMixin] = objective.networks
        self.output_dir = Path(args.output_dir)
        self.step = self.total_steps = 0
        self.history: dict[str, list[tuple[int, float]]] = {}
        self.seconds = 0.0
        self.warning: str | None = None
        self.channels_last = accelerator.mixed_precision != "no"
        self.stop_signals = StopSignals(accelerator)
        self.writes = accelerator.is_main_process

    @abstractmethod
    def prepare(self, resume_from: Path | None) -> None:
        """Do all that can fail for the user's data or options, from where the networks are or from a checkpoint.

        Nothing is written.
        """

    @abstractmethod
    def learn(self) -> None:
        """Bring the prepared networks to the end of the run."""

    def run(self, resume_from: Path | None = None) -> dict[str, dict[str, float]]:
        """`prepare` and `complete`."""
        self.prepare(resume_from)
        return self.complete()

    def complete(self) -> dict[str, dict[str, float]]:
        """Learn, save the networks, measure held-out data, draw: what comes later cannot lose what was learnt.

        Returns:
            {"train": last means of the losses and other figures, "validation": held-out figures}.
        """
        self.learn()
        with together(self.accelerator):
            if self.accelerator.is_main_process:
                with checkpointing.writing("the trained model", self.output_dir):
                    save_model(self)
        validation = self.evaluate()
        if self.chosen() is None:  # of the best networks it was logged after their step
            self.log({f"validation/{name}": value for name, value in validation.items()})
        self.save_samples()
        train = {
            name: points[-1][1]
            for name, points in self.history.items()
            if not (name.startswith("validation/") or is_diagnostic(name))
        }
        return {"train": train, "validation": validation}

    def log(self, values: dict[str, float]) -> None:
        """Put figures into the history and the trackers."""
        for name, value in values.items():
            self.history.setdefault(name, []).append((self.step, value))
        self.accelerator.log(values, step=self.step)

    def inference_networks(self) -> dict[str, ModelMixin]:
        """The networks a pipeline gets."""
        return self.networks

    def environment(self) -> dict[str, Any]:
        """What a figure depends on that was found out by this run."""
        return {}

    def chosen(self) -> dict[str, Any] | None:
        """Which of a run's networks are its result, where they need not be the last ones; see `BestNetworks`."""
        return None

    def lasting_warning(self) -> str | None:
        """What metrics and card shall say of the finished run."""
        return self.warning

    @property
    def place(self) -> Place:
        """Where batches go: to the networks, images in the layout of memory that they compute in."""
        return Place(self.accelerator.device, channels_last=self.accelerator.mixed_precision != "no")

    def to_device(self, batch: Batch) -> Batch:
        """A batch where the networks are, images in the layout of memory that they compute in."""
        moved = {}
        for name, value in batch.items():
            moved[name] = lay_out(value.to(self.accelerator.device, non_blocking=True), self.channels_last)
        return moved

    @contextmanager
    def evaluating(self, networks: dict[str, ModelMixin]) -> Iterator[dict[str, ModelMixin]]:
        """The networks in eval mode, without gradients, all on the accelerator's device."""
        modes = {name: network.training for name, network in networks.items()}
        # no others: `to` exchanges the tensors of parameters even where it moves none, and DDP loses its gradients
        away = {name: net.device for name, net in networks.items() if net.device.type != self.accelerator.device.type}
        for name, network in networks.items():
            if name in away:
                network.to(self.accelerator.device)
            network.eval()
        try:
            with torch.no_grad():
                yield networks
        finally:
            for name, network in networks.items():
                if name in away:
                    network.to(away[name])
                network.train(modes[name])

    def evaluate(self) -> dict[str, float]:
        """Held-out figures over the split and all processes; empty without held-out data."""
        if self.data.validation is None:
            return {}
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        sums: dict[str, tuple[float, int]] = {}
        whole: dict[str, list[Tensor]] = {name: [] for name in self.objective.whole}
        batches = evaluation_batches(
            self.data.validation,
            batch_size=self.args.eval_batch_size or self.args.train_batch_size,
            rank=rank,
            world_size=world,
            num_workers=self.data.arguments.dataloader_num_workers,
            place=self.place,
            by_shards=True,
        )
        with self.evaluating(self.inference_networks()) as networks:
            for index, batch in enumerate(batches):
                generator = torch.Generator().manual_seed(noise_seed(self.args.seed, rank + index * world))
                figures = self.objective.evaluate(networks, self.to_device(batch), generator)
                for name, values in figures.items():
                    if name in whole:
                        whole[name].append(values.cpu())
                    else:
                        total, count = sums.get(name, (0.0, 0))
                        sums[name] = total + float(values.double().sum()), count + len(values)
        shares = gather(self.accelerator, (sums, whole))
        means = {}
        for name in dict.fromkeys(name for share in shares for name in share[0]):
            totals, counts = zip(*(share[0].get(name, (0.0, 0)) for share in shares), strict=True)
            means[name] = sum(totals) / sum(counts)
        gathered = {name: [values for share in shares for values in share[1][name]] for name in whole}
        return means | self.objective.summarize({name: torch.cat(values) for name, values in gathered.items()})

    def save_samples(self) -> None:
        """Write the objective's pictures of the inference networks (the main process); say so where there are none."""
        with together(self.accelerator):
            if not self.accelerator.is_main_process:
                return
            try:
                pictures = self._draw()
            except (UserError, RuntimeError) as error:  # networks may diverge, samplers lack memory: training goes on
                self.accelerator.print(f"warning: no picture of step {self.step}: {' '.join(str(error).split())}")
                return
            with checkpointing.writing("the sample grid", self.output_dir):
                chosen = self.chosen() if self.step == self.total_steps else None
                if chosen is not None:
                    save_sample_grid(pictures, self.output_dir, chosen["step"], "best")
                else:
                    save_sample_grid(pictures, self.output_dir, self.step)

    def _draw(self) -> dict[str, Tensor]:
        """The objective's pictures; none without a pipeline."""
        count = NUM_SAMPLES_SHOWN if self.data.spec.is_image else NUM_POINTS_SHOWN
        shown = next(evaluation_batches(self.data.validation or self.data.train, batch_size=count))
        with self.evaluating(self.inference_networks()) as networks:
            pipeline = self.objective.pipeline(networks)
            if pipeline is None:
                return {}
            pipeline.set_progress_bar_config(disable=True)
            generator = torch.Generator().manual_seed(self.args.seed)
            return self.objective.sample_grid(pipeline, self.to_device(shown), generator)
