"""What a checkpoint holds: all a run needs to go on as if it had never stopped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import SchedulerMixin

from hf_genmodels.loading import load_network
from hf_genmodels.losses.gan import GANLoss
from hf_genmodels.objectives.base import Objective

from . import checkpointing
from .arguments import MAY_CHANGE_ON_RESUME, TrainingArguments
from .optimizers import parameter_groups

if TYPE_CHECKING:
    from .loop import TrainingLoop


def identity(loop: TrainingLoop) -> dict[str, Any]:
    """What a run must share with the checkpoint it resumes from, what tells a user most first."""
    configs = {
        f"{name}.{key}": value
        for name, network in loop.objective.networks.items()
        for key, value in network.config.items()
        if not key.startswith("_")
    }
    options = {
        f"--{name}": value
        for name, value in {**vars(loop.args), **loop.options}.items()
        if name not in MAY_CHANGE_ON_RESUME
    }
    everything = {
        "world size": loop.accelerator.num_processes,
        "data set": loop.data.spec.name,
        **{f"class of {name}": type(network).__name__ for name, network in loop.objective.networks.items()},
        **configs,
        **options,
        **{f"objective.{name}": value for name, value in loop.numbers.items()},
        "fingerprint of the data": loop.data.spec.fingerprint,
        "files of the data": loop.data.spec.files,
    }
    as_saved: dict[str, Any] = json.loads(json.dumps(everything))
    return as_saved


def plain_values(objective: Objective) -> dict[str, Any]:
    """An objective's own numbers and choices, as JSON has them; of losses and schedulers what they are made of."""
    found = {name: _plain(value) for name, value in vars(objective).items() if not name.startswith("_")}
    return {name: value for name, value in found.items() if value is not _NOT_PLAIN}


_NOT_PLAIN = object()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, GANLoss):
        parts = vars(value).items()
        return {name: getattr(part, "__qualname__", part) for name, part in parts}
    if isinstance(value, SchedulerMixin):
        return {name: each for name, each in value.config.items() if not name.startswith("_")}
    return _NOT_PLAIN


def as_built(objective: Objective, args: TrainingArguments) -> dict[str, Any]:
    """What a run must share of an objective as it was before any training: class, numbers, phases, optimisers."""
    if objective.as_built is None:
        trained = dict.fromkeys(name for phase in objective.phases for name in phase.trains)
        optimizers = {name: parameter_groups(objective, name, args) for name in trained}
        objective.as_built = {
            **plain_values(objective),
            "class": f"{type(objective).__module__}.{type(objective).__qualname__}",
            **{f"phase {phase.name}": dataclasses.asdict(phase) for phase in objective.phases},
            **{
                f"optimizer of {name}": [kind, *({k: v for k, v in g.items() if k != "params"} for g in groups)]
                for name, (kind, groups) in optimizers.items()
            },
        }
    return objective.as_built


def save_checkpoint(loop: TrainingLoop) -> None:
    """Write `checkpoint-<step>`; whatever stops it leaves the earlier ones whole."""
    accelerator, step = loop.accelerator, loop.step
    with checkpointing.writing(f"checkpoint-{step}", loop.output_dir):
        folder = checkpointing.partial_folder(loop.output_dir, step)
        if accelerator.is_main_process:
            checkpointing.begin(loop.output_dir, step)
            for name, network in loop.networks.items():
                if name in loop.objective.frozen:
                    checkpointing.save_once(network, loop.output_dir / checkpointing.FROZEN / name)
                else:
                    network.save_pretrained(str(folder / "networks" / name))
            for name, average in loop.averages.items():
                average.network.save_pretrained(str(folder / "ema" / name))
            state = {
                "optimizers": {name: optimizer.state_dict() for name, optimizer in loop.optimizers.items()},
                "ema_steps": {name: average.average.optimization_step for name, average in loop.averages.items()},
                "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
                "step": step,
                "consumed": loop.consumed,
                "history": loop.history,
                "seconds": loop.seconds,
            }
            save_state(state, folder / "state.pt")
        accelerator.wait_for_everyone()
        mine = {
            "random": random_state(),
            "objective": loop.objective.state_dict(),
            # of the steps since the last log, where a signal has stopped the run between two
            "recorded": {name: torch.stack(values).cpu() for name, values in loop.recorded.items()},
            "recorded_steps": loop.recorded_steps,
            "gradient_norms": {name: norm.cpu() for name, norm in loop.gradient_norms.items()},
        }
        save_state(mine, folder / f"process-{accelerator.process_index}.pt")
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            checkpointing.finish(folder, loop.output_dir, step, identity(loop))
            checkpointing.prune(loop.output_dir, loop.args.checkpoints_total_limit)
        accelerator.wait_for_everyone()


def restore(loop: TrainingLoop, checkpoint: Path) -> None:
    """Continue where `checkpoint` was written; `checkpointing.verify` has found it whole and of this run."""
    for name, network in loop.networks.items():
        saved = load_network(type(network), checkpointing.folder_of(checkpoint, name))
        network.load_state_dict(saved.state_dict())
    state = torch.load(checkpoint / "state.pt", map_location="cpu", weights_only=True)
    for name, average in loop.averages.items():
        average.network.load_state_dict(load_network(type(average.network), checkpoint / "ema" / name).state_dict())
        average.average.optimization_step = state["ema_steps"][name]
    for name, optimizer in loop.optimizers.items():
        optimizer.load_state_dict(state["optimizers"][name])
    if loop.accelerator.scaler is not None:
        loop.accelerator.scaler.load_state_dict(state["scaler"])
    process_file = checkpoint / f"process-{loop.accelerator.process_index}.pt"
    mine = torch.load(process_file, map_location="cpu", weights_only=True)
    loop.objective.load_state_dict(mine["objective"])
    set_random_state(mine["random"])
    device = loop.accelerator.device
    loop.recorded = {name: list(values.to(device)) for name, values in mine.get("recorded", {}).items()}
    loop.recorded_steps = mine.get("recorded_steps", {})
    loop.gradient_norms = mine.get("gradient_norms", {})
    loop.step, loop.consumed = state["step"], state["consumed"]
    loop.history, loop.seconds = state["history"], state["seconds"]


def save_state(state: dict[str, Any], path: Path) -> None:
    """`torch.save` into a file of Python's: given a path, torch would not tell why a write failed."""
    with path.open("wb") as file:
        torch.save(state, file)


def random_state() -> dict[str, Any]:
    """State of torch's default generators, which only dropout uses."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_random_state(state: dict[str, Any]) -> None:
    """Undo `random_state`."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
