"""What takes the training loop's place for families that are fitted to all data at once."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list

from hf_genmodels.data import evaluation_batches
from hf_genmodels.keyed import noise_seed
from hf_genmodels.objectives.closed_form import ClosedFormObjective, Fit

from .run import Run
from .together import together


class ClosedFormFit(Run):
    """Fits in place of training: one process fits, the others get what it found.

    There are no batches in random order, no optimisers and no checkpoints. `total_steps` are the fit's, known when it
    is over.
    """

    objective: ClosedFormObjective

    def prepare(self, resume_from: Path | None) -> None:
        """Fit: the data decide whether that can be done."""
        started = time.monotonic()
        found = [Fit({})]
        with together(self.accelerator):
            if self.accelerator.is_main_process:
                found = [self._fit()]
        weights = [{name: network.state_dict() for name, network in self.networks.items()}]
        broadcast_object_list(found)
        broadcast_object_list(weights)
        for name, network in self.networks.items():
            network.load_state_dict(weights[0][name])
            network.to(self.accelerator.device)
        self.seconds = time.monotonic() - started
        (self.found,) = found

    def learn(self) -> None:
        """Log the figures of the fit's steps, however many they were."""
        for values in zip(*self.found.figures.values(), strict=True):
            self.step += 1
            self.log(dict(zip(self.found.figures, values, strict=True)))
        self.total_steps = self.step
        self.warning = self.found.warning
        if self.warning is not None:
            self.accelerator.print(f"warning: {self.warning}")

    def _fit(self) -> Fit:
        batches = evaluation_batches(self.data.train, batch_size=self.args.train_batch_size)
        return self.objective.fit(batches, torch.Generator().manual_seed(noise_seed(self.args.seed)))
