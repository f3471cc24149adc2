"""The training loop, the only one: phases, gradient accumulation, several processes, checkpoints, logs.

Randomness is a function of (seed, step, phase, update), and each process takes its rows of what is drawn for the whole
batch: a resumed run, N processes, or N accumulated micro-batches see the numbers of one uninterrupted process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from diffusers import ModelMixin
from torch import Tensor
from tqdm.auto import tqdm

from hf_genmodels.data import LoadedData, TrainingBatches, evaluation_batches
from hf_genmodels.errors import UserError
from hf_genmodels.objectives.base import Batch, Noise, Objective, Phase

from . import checkpointing
from .arguments import TrainingArguments
from .checks import check_batch_size, check_machine, count_steps, schedule_warning
from .ema import AveragedNetwork
from .health import SampleWatch, collapse_warning, gradient_norm_name, is_gradient_norm
from .optimizers import apply_gradients, make_optimizer, parameter_groups
from .outputs import save_sample_grid
from .schedules import learning_rate_factor
from .state import restore, save_checkpoint

NUM_SAMPLES_SHOWN = 32
NUM_POINTS_SHOWN = 2000  # a cloud of points has a shape only when there are many


class TrainingLoop:
    """Trains an objective's networks; `run` does all of it.

    Args:
        objective: The family's networks and losses.
        data: Training and held-out examples.
        args: Options of the loop.
        accelerator: Made with the options' precision and trackers.
        num_workers: Processes that load data.
        options: Options beside `args` (the data's, the family's) that a resumed run must share.

    Raises:
        UserError: Options that cannot work with this objective, data or machine. Nothing has been written by then.
    """

    def __init__(
        self,
        objective: Objective,
        data: LoadedData,
        args: TrainingArguments,
        accelerator: Accelerator,
        num_workers: int = 0,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.objective, self.data, self.args, self.accelerator = objective, data, args, accelerator
        self.options = options or {}
        self.output_dir = Path(args.output_dir)
        self.precision = accelerator.mixed_precision
        check_machine(objective, args, accelerator)
        check_batch_size(objective, args)
        for name in self._trained_names():
            parameter_groups(objective, name, args.learning_rate)
        self.batches = TrainingBatches(
            data.train,
            batch_size=args.train_batch_size,
            accumulation=args.gradient_accumulation_steps,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            seed=args.seed,
            num_workers=num_workers,
        )
        self.total_steps = count_steps(objective, args, self.batches.batches_per_epoch)
        self.learning_rate_factor = learning_rate_factor(args, self.total_steps)
        self.step = 0
        self.consumed = 0  # micro-batches this process has taken
        self.history: dict[str, list[tuple[int, float]]] = {}
        self.recorded: dict[str, list[Tensor]] = {}
        self.recorded_steps: dict[str, list[int]] = {}
        self.is_logged = False  # whether this step's gradient norms are wanted
        self.gradient_norms: dict[str, Tensor] = {}
        self.sample_watch = SampleWatch(objective, data.train, args.seed)
        self.warning: str | None = None
        self.noise_generator = torch.Generator()
        self.seconds = 0.0

    # set-up ----------------------------------------------------------------------------------------------------------

    def prepare(self, resume_from: Path | None) -> None:
        """Place, restore, wrap and compile the networks; make the optimisers."""
        if warning := schedule_warning(self.objective, self.total_steps):
            self.accelerator.print(f"warning: {warning}")
        device = self.accelerator.device
        self.networks: dict[str, ModelMixin] = self.objective.networks
        for network in self.networks.values():
            network.to(device).train()
            if self.args.sync_bn:
                torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
            if self.precision != "no":
                network.to(memory_format=torch.channels_last)
        self.averages = {
            name: AveragedNetwork(self.networks[name], self.args)
            for name in (self.objective.ema if self.args.use_ema else ())
        }
        self.optimizers = {name: make_optimizer(self.objective, name, self.args) for name in self._trained_names()}
        if resume_from is not None:
            restore(self, resume_from)
        elif self.args.pretrained_model_name_or_path is None:
            first = self._to_device(next(self.batches.start(0)))
            self.objective.initialize(first, self._reduce)
        self.parameters = {
            name: [p for p in network.parameters() if p.requires_grad] for name, network in self.networks.items()
        }
        self.wrapped = {name: self._wrap(self.networks[name]) for name in self._trained_names()}
        compiled = {name: torch.compile(module) for name, module in self.wrapped.items()} if self.args.compile else {}
        for phase in self.objective.phases:
            if compiled and phase.double_backward:
                self.accelerator.print(f"phase {phase.name} differentiates a gradient: it is not compiled")
        self.views: dict[str, dict[str, Any]] = {
            phase.name: {
                name: (self.wrapped if phase.double_backward or not compiled else compiled)[name]
                if name in phase.trains
                else network
                for name, network in self.networks.items()
            }
            for phase in self.objective.phases
        }
        self.trainable = set(self.networks)
        self.stream = self.batches.start(self.consumed)

    def _trained_names(self) -> list[str]:
        return list(dict.fromkeys(name for phase in self.objective.phases for name in phase.trains))

    def _reduce(self, tensor: Tensor) -> Tensor:
        mean: Tensor = self.accelerator.reduce(tensor, "mean")
        return mean

    def _wrap(self, network: ModelMixin) -> torch.nn.Module:
        wrapped: torch.nn.Module = self.accelerator.prepare(network)
        # Accelerate has put autocast into `forward`; ours is around the losses, where a phase can do without.
        self.accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
        return wrapped

    def _to_device(self, batch: Batch) -> Batch:
        moved = {name: value.to(self.accelerator.device, non_blocking=True) for name, value in batch.items()}
        if self.precision != "no":
            moved = {n: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v for n, v in moved.items()}
        return moved

    # one step --------------------------------------------------------------------------------------------------------

    def training_step(self) -> None:
        """One pass over all phases."""
        self.objective.before_step(self.step)
        factor = self.learning_rate_factor(self.step)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self.args.learning_rate * group["lr_scale"] * factor
        accumulation = self.args.gradient_accumulation_steps
        caches: list[dict[str, Any]] = [{} for _ in range(accumulation)]
        batches: list[Batch] = []
        for index, phase in enumerate(self.objective.phases):
            if self.step % phase.every:
                continue
            for update in range(phase.updates):
                if not (phase.reuse_batch and batches):
                    batches = [self._to_device(next(self.stream)) for _ in range(accumulation)]
                    self.consumed += accumulation
                self.update(phase, noise_seed(self.args.seed, self.step, index, update), batches, caches)
        if self.averages:
            self._set_trainable(set(self.networks))
            for name, average in self.averages.items():
                average.update(self.networks[name])
        self.step += 1

    def update(self, phase: Phase, seed: int, batches: list[Batch], caches: list[dict[str, Any]]) -> None:
        """One optimiser update of the networks that `phase` trains."""
        self._set_trainable(set(phase.trains))
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        for name in phase.trains:
            self.optimizers[name].zero_grad(set_to_none=True)
        for micro, (batch, cache) in enumerate(zip(batches, caches, strict=True)):
            self.noise_generator.manual_seed(seed)
            noise = Noise(self.noise_generator, share=micro * world + rank, num_shares=len(batches) * world)
            with ExitStack() as stack:
                if micro < len(batches) - 1:
                    for name in phase.trains:
                        stack.enter_context(self.accelerator.no_sync(self.wrapped[name]))
                with nullcontext() if phase.double_backward else self.accelerator.autocast():
                    losses = self.objective.losses(phase, self.views[phase.name], batch, noise, cache)
                self.accelerator.backward(losses["loss"] / len(batches))
            self._record(phase, losses)
        norms = apply_gradients(
            {name: self.optimizers[name] for name in phase.trains},
            self.parameters,
            self.args.max_grad_norm,
            self.accelerator.scaler,
            self.is_logged,
        )
        for name, norm in norms.items():
            self.gradient_norms[self._prefix(phase) + gradient_norm_name(name)] = norm
        self.objective.after_update(phase, self.networks, self._reduce)

    def _set_trainable(self, names: set[str]) -> None:
        for name in names ^ self.trainable:
            for parameter in self.parameters[name]:
                parameter.requires_grad_(name in names)
        self.trainable = names

    def _prefix(self, phase: Phase) -> str:
        return f"{phase.name}/" if len(self.objective.phases) > 1 else ""

    def _record(self, phase: Phase, losses: dict[str, Tensor]) -> None:
        prefix = self._prefix(phase)
        for name, value in losses.items():
            self.recorded.setdefault(prefix + name, []).append(value.detach())
            self.recorded_steps.setdefault(prefix + name, []).append(self.step)

    # logs and checks -------------------------------------------------------------------------------------------------

    def flush_losses(self) -> dict[str, float]:
        """Means over all processes since the last call.

        Raises:
            UserError: A loss, a weight or a batch statistic is not finite; names phase (or network) and step.
        """
        means: dict[str, float] = {}
        first_bad: dict[str, int] = {}
        for name, values in self.recorded.items():
            stacked = torch.stack([value.float() for value in values])
            bad = self.accelerator.reduce((~stacked.isfinite()).float(), "sum").nonzero()
            if len(bad):
                first_bad[name] = self.recorded_steps[name][int(bad[0])]
            means[name] = float(self.accelerator.reduce(stacked.mean(), "mean"))
        if first_bad:
            name = min(first_bad, key=first_bad.__getitem__)  # what it spoilt in other phases came later
            where = name if "/" in name else f"{self.objective.phases[0].name}/{name}"
            raise UserError(
                f"{where} is not finite at step {first_bad[name]}; {self._last_good()}; "
                "try a lower --learning_rate or --max_grad_norm"
            )
        self.recorded.clear()
        self.recorded_steps.clear()
        for name, network in self.networks.items():
            saved = [value for value in network.state_dict().values() if value.is_floating_point()]
            if not torch.nn.utils.get_total_norm(saved, float("inf")).isfinite():
                raise UserError(f"the weights of {name} are not finite at step {self.step}; {self._last_good()}")
        return means

    def _last_good(self) -> str:
        good = checkpointing.list_checkpoints(self.output_dir)
        return f"{good[-1]} is still good" if good else "no checkpoint was saved before"

    def log(self, values: dict[str, float]) -> None:
        """Put figures into the history and the trackers."""
        for name, value in values.items():
            self.history.setdefault(name, []).append((self.step, value))
        self.accelerator.log(values, step=self.step)

    def inference_networks(self) -> dict[str, ModelMixin]:
        """The networks a pipeline gets: averaged where there is an average."""
        return {**self.networks, **{name: average.network for name, average in self.averages.items()}}

    def health(self) -> dict[str, float]:
        """Gradient norms of this step, and how far samples lie apart compared with the data; finite ones only."""
        figures = {name: float(norm) for name, norm in self.gradient_norms.items()}
        self.gradient_norms.clear()
        with self.evaluating(self.networks) as networks:
            figures |= self.sample_watch.measure(networks)
        return {name: value for name, value in figures.items() if math.isfinite(value)}

    def new_warning(self) -> str | None:
        """What must be said about the history and was not said before."""
        before, self.warning = self.warning, collapse_warning(self.history, self.total_steps)
        return None if self.warning == before else self.warning

    @contextmanager
    def evaluating(self, networks: dict[str, ModelMixin]) -> Iterator[dict[str, ModelMixin]]:
        """The networks in eval mode, without gradients."""
        modes = {name: network.training for name, network in networks.items()}
        for network in networks.values():
            network.eval()
        try:
            with torch.no_grad():
                yield networks
        finally:
            for name, network in networks.items():
                network.train(modes[name])

    def evaluate(self) -> dict[str, float]:
        """Held-out figures, averaged over the split and all processes; empty without held-out data."""
        if self.data.validation is None:
            return {}
        accelerator = self.accelerator
        generator = torch.Generator().manual_seed(noise_seed(self.args.seed, accelerator.process_index))
        sums: dict[str, Tensor] = {}
        count = 0
        batches = evaluation_batches(
            self.data.validation,
            batch_size=self.args.eval_batch_size or self.args.train_batch_size,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
        )
        with self.evaluating(self.inference_networks()) as networks:
            for batch in batches:
                batch = self._to_device(batch)
                for name, values in self.objective.evaluate(networks, batch, generator).items():
                    sums[name] = sums.get(name, torch.zeros((), dtype=torch.float64)) + values.double().sum().cpu()
                count += len(batch["index"])
        shares = gather_object([(count, {name: float(value) for name, value in sums.items()})])
        total = sum(share[0] for share in shares)
        return {name: sum(share[1].get(name, 0.0) for share in shares) / total for name in shares[0][1]}

    def save_samples(self) -> None:
        """Write the objective's pictures of the inference networks (the main process)."""
        if not self.accelerator.is_main_process:
            return
        count = NUM_SAMPLES_SHOWN if self.data.spec.is_image else NUM_POINTS_SHOWN
        shown = next(evaluation_batches(self.data.validation or self.data.train, batch_size=count))
        with self.evaluating(self.inference_networks()) as networks:
            pipeline = self.objective.pipeline(networks)
            if pipeline is not None:
                pipeline.set_progress_bar_config(disable=True)
                generator = torch.Generator().manual_seed(self.args.seed)
                pictures = self.objective.sample_grid(pipeline, self._to_device(shown), generator)
                with checkpointing.writing("the sample grid", self.output_dir):
                    save_sample_grid(pictures, self.output_dir, self.step)

    # the run ---------------------------------------------------------------------------------------------------------

    def run(self, resume_from: Path | None) -> dict[str, dict[str, float]]:
        """Train to the last step.

        Returns:
            {"train": last means of the losses and other figures, "validation": held-out figures}.
        """
        self.prepare(resume_from)
        self.train_until(self.total_steps)
        validation = self.evaluate()
        self.log({f"validation/{name}": value for name, value in validation.items()})
        self.save_samples()
        train = {
            name: points[-1][1]
            for name, points in self.history.items()
            if not (name.startswith("validation/") or is_gradient_norm(name))
        }
        return {"train": train, "validation": validation}

    def train_until(self, final_step: int) -> None:
        """Train up to `final_step`, with logs, pictures and checkpoints on the way."""
        args = self.args
        main = self.accelerator.is_main_process
        started = time.monotonic() - self.seconds
        # Closed on errors too: their line would otherwise be printed behind the bar.
        with tqdm(total=final_step, initial=self.step, desc="training", disable=not main, mininterval=0.5) as bar:
            while self.step < final_step:
                step = self.step + 1
                last = step == final_step
                saving = args.checkpointing_steps > 0 and step % args.checkpointing_steps == 0
                self.is_logged = last or saving or step % args.log_steps == 0
                self.training_step()
                bar.update()
                if self.is_logged:
                    losses = self.flush_losses()
                    self.log({**losses, **self.health()})
                    warning = self.new_warning()
                    if warning is not None and main:
                        bar.write(f"warning: {warning}")
                    bar.set_postfix({name: f"{value:.4g}" for name, value in losses.items()})
                self.seconds = time.monotonic() - started
                if args.sample_steps is not None and self.step % args.sample_steps == 0 and not last:
                    self.save_samples()
                    self.log({f"validation/{name}": value for name, value in self.evaluate().items()})
                if saving:
                    save_checkpoint(self)


def noise_seed(*numbers: int) -> int:
    """One 63-bit seed from several numbers (a multiplicative mix; neighbours give unrelated seeds)."""
    mixed = 0x9E3779B97F4A7C15
    for number in numbers:
        mixed = ((mixed ^ (number + 1)) * 0xBF58476D1CE4E5B9) % 2**64
        mixed ^= mixed >> 31
    return mixed >> 1
