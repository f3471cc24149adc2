"""The training loop, the only one: phases, gradient accumulation, several processes, checkpoints, logs.

Randomness is a function of (seed, step, phase, update, row of the global batch): a resumed run, N processes, or N
accumulated micro-batches see the numbers of one uninterrupted process.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import ModelMixin
from torch import Tensor
from tqdm.auto import tqdm

from hf_genmodels.data import LoadedData, TrainingBatches
from hf_genmodels.data.workers import telling_of_killed_workers
from hf_genmodels.errors import UserError
from hf_genmodels.keyed import noise_seed
from hf_genmodels.objectives.base import Batch, Noise, Objective, Phase

from . import checkpointing
from .arguments import TrainingArguments
from .best import BestNetworks
from .checks import check_batch_size, check_machine, check_objective, count_steps, schedule_warnings
from .ema import AveragedNetwork
from .fast import AS_IS, WAYS, choose, chosen_line, lay_out, lay_out_moments, time_ways
from .figures import RecordedLosses
from .health import DATA_WAIT, SampleWatch, collapse_warning, gradient_norm_name, lasting_warning
from .networks import PhaseNetworks, place
from .optimizers import make_optimizer, own_share
from .run import Run
from .schedules import learning_rate_factor
from .state import as_built, restore, save_checkpoint, settle
from .stopping import Stopped
from .together import of_main, together
from .waiting import DataWait


class TrainingLoop(Run):
    """Trains an objective's networks step by step.

    Args:
        objective: The family's networks and losses.
        data: Training and held-out examples.
        args: Options of the loop.
        accelerator: Made with the options' precision and trackers.
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
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(objective, data, args, accelerator)
        self.options = options or {}
        check_objective(objective)
        self.numbers = as_built(objective, args)
        check_machine(objective, args, accelerator)
        check_batch_size(objective, args)
        self.trained = list(dict.fromkeys(name for phase in objective.phases for name in phase.trains))
        self.batches = TrainingBatches(
            data.train,
            batch_size=args.train_batch_size,
            accumulation=args.gradient_accumulation_steps,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            seed=args.seed,
            num_workers=data.arguments.dataloader_num_workers,
        )
        self.total_steps = count_steps(objective, args, self.batches.batches_per_epoch)
        self.learning_rate_factor = learning_rate_factor(args, self.total_steps)
        self.consumed = 0  # micro-batches this process has taken
        self.stream_state: dict[str, Any] | None = None  # how far a checkpoint had read a stream
        self.recorded = RecordedLosses()
        self.data_wait = DataWait()
        self.gradient_norms: dict[str, Tensor] = {}
        self.sample_watch = SampleWatch(objective, data.train, args.seed)
        self.way = AS_IS  # of computing a step
        self.saved_step: int | None = None  # of the last checkpoint
        self.thread = ThreadPoolExecutor(1, "checkpoint")
        self.unsettled: tuple[int, Future[Path] | None] | None = None  # the last checkpoint until it has its name
        self.best = BestNetworks(self) if args.save_best else None

    # one step --------------------------------------------------------------------------------------------------------

    def training_step(self) -> None:
        """One pass over all phases."""
        if self.args.compile:
            torch.compiler.cudagraph_mark_step_begin()  # what CUDA graphs gave in the last step may be overwritten
        self.objective.before_step(self.step)
        factor = self.learning_rate_factor(self.step)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self.args.learning_rate * group["lr_scale"] * factor
        accumulation = self.args.gradient_accumulation_steps
        caches: list[dict[str, Any]] = [{} for _ in range(accumulation)]
        batches: list[Batch] = []
        for index, phase in enumerate(self.objective.phases):
            for update in range(phase.updates_in(self.step)):
                if not (phase.reuse_batch and batches):
                    with self.data_wait.waiting():
                        batches = [self.to_device(next(self.stream)) for _ in range(accumulation)]
                    self.consumed += accumulation
                self.update(phase, noise_seed(self.args.seed, self.step, index, update), batches, caches)
        for name, average in self.averages.items():
            average.update(self.networks[name])
        self.step += 1

    def update(self, phase: Phase, seed: int, batches: list[Batch], caches: list[dict[str, Any]]) -> None:
        """One optimiser update of the networks that `phase` trains."""
        trained = self.phase_networks
        trained.set_trainable(phase.trains)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        scaler = self.accelerator.scaler
        for name in phase.trains:
            self.optimizers[name].zero_grad(set_to_none=True)
        iterates = trained.power_iterates if len(batches) > 1 else []
        before = [iterate.clone() for iterate in iterates]
        for micro, (batch, cache) in enumerate(zip(batches, caches, strict=True)):
            for iterate, start in zip(iterates, before, strict=True):
                iterate.copy_(start)
            noise = Noise(seed, share=micro * world + rank, num_shares=len(batches) * world)
            with nullcontext() if micro == len(batches) - 1 else trained.unsynchronised(phase):
                with self.autocast(phase):
                    losses = self.objective.losses(phase, trained.views[phase.name], batch, noise, cache)
                loss = losses["loss"] / len(batches) if len(batches) > 1 else losses["loss"]
                (loss if scaler is None else scaler.scale(loss)).backward()
            self.recorded.add(losses, self.prefixes[phase.name], self.step)
        self.apply_gradients(phase)
        self.objective.after_update(phase, self.networks, Noise(noise_seed(seed)), self.accelerator.gather)

    def autocast(self, phase: Phase) -> AbstractContextManager[Any]:
        """The precision of a phase's losses: float32, Accelerate's, or what --fast has chosen."""
        if phase.double_backward:
            return nullcontext()
        if WAYS[self.way].bf16:
            return torch.autocast(self.accelerator.device.type, torch.bfloat16)
        if self.accelerator.mixed_precision == "no":
            return nullcontext()
        context: AbstractContextManager[Any] = self.accelerator.autocast()
        return context

    def apply_gradients(self, phase: Phase) -> None:
        """Unscale, measure and clip the gradients of a phase's networks, and let their optimisers step."""
        scaler, max_norm = self.accelerator.scaler, self.args.max_grad_norm
        # a lazy phase is measured at its last run before a log, one that ends at its last run
        is_last = phase.stops is not None and self.step + phase.every >= phase.stops
        is_measured = is_last or self.step < self.next_log <= self.step + phase.every
        for name in phase.trains:
            optimizer, parameters, norm = self.optimizers[name], self.phase_networks.parameters[name], None
            if scaler is not None:
                scaler.unscale_(optimizer)
            if max_norm is not None:
                norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
            elif is_measured:
                norm = torch.nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
            if norm is not None and is_measured:
                self.gradient_norms[self.prefixes[phase.name] + gradient_norm_name(name)] = norm
            if scaler is not None:
                scaler.step(optimizer)
            else:
                optimizer.step()
        if scaler is not None:
            scaler.update()

    # set-up ----------------------------------------------------------------------------------------------------------

    def prepare(self, resume_from: Path | None) -> None:
        """Place, restore, wrap and compile the networks; make the optimisers."""
        place(self.objective, self.args, self.accelerator)
        self.averages = {
            name: AveragedNetwork(self.networks[name], self.args, self.objective.averaged_buffers.get(name, ()))
            for name in (self.objective.ema if self.args.use_ema else ())
            if name not in self.objective.frozen
        }
        self.optimizers = {name: make_optimizer(self.objective, name, self.args) for name in self.trained}
        if self.accelerator.process_index > 0:  # what dropout leaves out is each process's own
            torch.manual_seed(noise_seed(self.args.seed, self.accelerator.process_index))
        if resume_from is not None:
            with together(self.accelerator):
                restore(self, resume_from)
            self.saved_step = self.step
        batches = self.made = self.batches.start(self.consumed, self.stream_state, self.place)
        with together(self.accelerator):  # what cannot be read is to be refused before anything is written
            first = [next(batches) for _ in range(self.args.gradient_accumulation_steps)]
        self.stream = itertools.chain(first, batches)
        if resume_from is None and self.args.pretrained_model_name_or_path is None:
            noise = Noise(noise_seed(self.args.seed))
            batch = {name: torch.cat([micro[name] for micro in first]) for name in first[0]}
            self.objective.initialize(batch, noise, self.accelerator.gather)
        if self.args.fast:
            if resume_from is None:
                self.way = self.find_way(first)
            self.channels_last = WAYS[self.way].channels_last
            for network in (*self.networks.values(), *(average.network for average in self.averages.values())):
                lay_out(network, self.channels_last)
            for optimizer in self.optimizers.values():
                lay_out_moments(own_share(optimizer, self.args))
        self.phase_networks = PhaseNetworks(self.objective, self.args, self.accelerator)
        several = len(self.objective.phases) > 1
        self.prefixes = {phase.name: f"{phase.name}/" if several else "" for phase in self.objective.phases}
        self.next_log = self.find_next_log()
        if self.best is not None:
            with together(self.accelerator):
                self.best.prepare()

    def find_way(self, batches: Sequence[Batch]) -> str:
        """The quickest way to compute a step, as the main process finds it and says."""
        seconds = time_ways(self.objective, batches, self.args, self.step)
        way = of_main(self.accelerator, choose(seconds))
        self.accelerator.print(chosen_line(seconds, way))
        return way

    def environment(self) -> dict[str, Any]:
        return {"fast": self.way} if self.args.fast else {}

    # logs and checks -------------------------------------------------------------------------------------------------

    def flush_losses(self) -> dict[str, float]:
        """Means over all processes since the last call.

        Raises:
            UserError: A loss, a weight or a batch statistic is not finite; names phase (or network) and step.
        """
        self.check_finite()
        means = self.recorded.means(self.accelerator)
        self.recorded.clear()
        return means

    def check_finite(self) -> None:
        """Look at all that was recorded since the last log, and at the networks as they are.

        Raises:
            UserError: A loss, a weight or a batch statistic is not finite; names phase (or network) and step.
        """
        first_bad = self.recorded.first_not_finite(self.accelerator)
        if first_bad is not None:
            name, step = first_bad
            where = name if "/" in name else f"{self.objective.phases[0].name}/{name}"
            raise UserError(
                f"{where} is not finite at step {step}; {self._last_good()}; "
                "try a lower --learning_rate or --max_grad_norm"
            )
        for name, network in self.networks.items():
            saved = [value for value in network.state_dict().values() if value.is_floating_point()]
            if not torch.nn.utils.get_total_norm(saved, float("inf")).isfinite():
                raise UserError(f"the weights of {name} are not finite at step {self.step}; {self._last_good()}")

    def _last_good(self) -> str:
        self._wait_for_thread()
        good = checkpointing.list_checkpoints(self.output_dir)
        return f"{good[-1]} is still good" if good else "no checkpoint was saved before"

    def inference_networks(self) -> dict[str, ModelMixin]:
        """The networks a pipeline gets: averaged where there is an average."""
        return {**self.networks, **{name: average.network for name, average in self.averages.items()}}

    def health(self) -> dict[str, float]:
        """Latest gradient norms, and how far samples lie apart compared with the data; finite ones only."""
        figures = {name: float(norm) for name, norm in self.gradient_norms.items()}
        self.gradient_norms.clear()
        with self.evaluating(self.networks) as networks:
            figures |= self.sample_watch.measure(networks)
        return {name: value for name, value in figures.items() if math.isfinite(value)}

    def new_warning(self) -> str | None:
        """What must be said about the history and was not said before."""
        before, self.warning = self.warning, collapse_warning(self.history, self.total_steps)
        return None if self.warning == before else self.warning

    def chosen(self) -> dict[str, Any] | None:
        return None if self.best is None else self.best.told()

    def lasting_warning(self) -> str | None:
        return lasting_warning(self.history, self.total_steps)

    # the run ---------------------------------------------------------------------------------------------------------

    def find_next_log(self) -> int:
        """After how many steps the next log is: before every checkpoint, too, and at the end."""
        steps = [each for each in (self.args.log_steps, self.args.checkpointing_steps) if each]
        return min(self.total_steps, *((self.step // each + 1) * each for each in steps))

    def learn(self) -> None:
        for warning in schedule_warnings(self.objective, self.total_steps):
            self.accelerator.print(f"warning: {warning}")
        if self.best is not None:
            self.best.begin()
        try:
            with telling_of_killed_workers():
                self.train_until(self.total_steps)
            self.stop_if_told()
            if self.best is not None:
                if self.args.checkpointing_steps and self.saved_step != self.step:
                    self.save_checkpoint()  # or the last networks would be nowhere
                    settle(self)
                self.best.conclude()
        finally:  # whoever goes on finds no processes that decode, and the networks and the folder as they are to be
            self.made.close()
            self.phase_networks.release()
            self._wait_for_thread()

    def train_until(self, final_step: int) -> None:
        """Train up to `final_step`, with logs, pictures and checkpoints on the way."""
        main = self.accelerator.is_main_process
        started = time.monotonic() - self.seconds
        self.data_wait.restart()
        # Closed on errors too: their line would otherwise be printed behind the bar.
        with tqdm(total=final_step, initial=self.step, desc="training", disable=not main, mininterval=0.5) as bar:
            while self.step < final_step:
                self.training_step()
                bar.update()
                if self.step in (self.next_log, final_step):
                    self.next_log = self.find_next_log()
                    with self.data_wait.elsewhere():
                        settle(self)
                    losses = self.flush_losses()
                    waited = {DATA_WAIT: self.data_wait.share(self.accelerator)}
                    with self.data_wait.elsewhere():
                        self.log({**losses, **waited, **self.health()})
                    warning = self.new_warning()
                    if warning is not None and main:
                        bar.write(f"warning: {warning}")
                    bar.set_postfix({name: f"{value:.4g}" for name, value in {**losses, **waited}.items()})
                self.seconds = time.monotonic() - started
                with self.data_wait.elsewhere():
                    self.between_steps(final_step)
                self.stop_if_told()
        settle(self)

    def between_steps(self, final_step: int) -> None:
        """Pictures, held-out figures and checkpoints that are due after this step."""
        draws = self.args.sample_steps is not None and self.step % self.args.sample_steps == 0
        draws = draws and self.step < final_step
        is_candidate = self.best is not None and self.best.is_due(self.step)
        if draws:
            self.save_samples()
        if draws or is_candidate:
            figures = self.evaluate()
            self.log({f"validation/{name}": value for name, value in figures.items()})
            if self.best is not None and is_candidate:
                self.best.consider(figures)
        if self.args.checkpointing_steps and self.step % self.args.checkpointing_steps == 0:
            self.save_checkpoint()

    def save_checkpoint(self) -> None:
        """Write `checkpoint-<step>`."""
        save_checkpoint(self)
        self.saved_step = self.step

    def _wait_for_thread(self) -> None:
        """Let the last checkpoint get its name; whether it did is for `settle` to say."""
        if self.unsettled is not None and self.unsettled[1] is not None:
            wait([self.unsettled[1]])

    def stop_if_told(self) -> None:
        """End the run where a signal has asked for it; every process must call this alike.

        Raises:
            Stopped: It has; a checkpoint was saved before, unless that was not wanted.
        """
        received = self.stop_signals.agreed()
        if received is None:
            return
        if self.saved_step != self.step and self.args.checkpoint_on_stop:
            self.check_finite()
            self.save_checkpoint()
        settle(self)
        self.accelerator.print(f"stopped by {received.name} after step {self.step}: {self._way_on()}")
        raise Stopped(received)

    def _way_on(self) -> str:
        good = checkpointing.list_checkpoints(self.output_dir)
        if not good:
            return "no checkpoint was saved"
        return f"the same command with --resume_from_checkpoint latest goes on from {good[-1]}"
