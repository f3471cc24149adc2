"""What a checkpoint holds: all a run needs to go on as if it had never stopped."""

from __future__ import annotations

import dataclasses
import inspect
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from hf_genmodels.data.spec import DataSpec
from hf_genmodels.errors import UserError
from hf_genmodels.files import read_json
from hf_genmodels.loading import load_network
from hf_genmodels.losses.gan import GANLoss
from hf_genmodels.objectives.base import Objective

from . import checkpointing
from .arguments import MAY_CHANGE_ON_RESUME, TrainingArguments
from .fast import WAYS
from .health import DATA_WAIT
from .optimizers import own_share, parameter_groups
from .together import of_main, together

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


def untold_properties(objective: Objective, numbers: dict[str, Any]) -> dict[str, Any]:
    """What the objective's properties were in a checkpoint from before its class had them, by "objective.name".

    An argument of its constructor was what is now the default. What the constructor finds out by itself follows from
    its arguments and networks, which are compared: it counts as equal.

    Args:
        objective: Of the run.
        numbers: Its properties as it was built.
    """
    arguments = {
        name: argument.default
        for kind in reversed(type(objective).__mro__)
        if "__init__" in vars(kind)
        for name, argument in inspect.signature(vars(kind)["__init__"]).parameters.items()
    }
    found = {}
    for name in numbers.keys() & vars(objective).keys():
        default = _plain(arguments[name]) if name in arguments else numbers[name]
        found[f"objective.{name}"] = None if default is _NOT_PLAIN else default
    return found


_NOT_PLAIN = object()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        each = [_plain(entry) for entry in value]
        return _NOT_PLAIN if _NOT_PLAIN in each else each
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
    """Write `checkpoint-<step>`; whatever stops it leaves the earlier ones whole.

    Every process writes its own state, and one process on every disk all the rest (`TrainingLoop.writes`). That one
    hashes the files in a thread while training goes on, and then gives the checkpoint its name; see `settle`.
    """
    settle(loop)
    accelerator, step, output_dir = loop.accelerator, loop.step, loop.output_dir
    identifier = of_main(accelerator, uuid.uuid4().hex)
    folder = checkpointing.partial_folder(output_dir, step)
    for stage in (_write_shared, _write_own):
        with together(accelerator), checkpointing.writing(f"checkpoint-{step}", output_dir):
            stage(loop, folder)
    best = loop.best.needed_by([]) if loop.best is not None else ()
    told = (folder, output_dir, step, identifier, identity(loop), known_classes(loop.data.spec), best)
    loop.unsettled = step, loop.thread.submit(checkpointing.finish, *told) if loop.writes else None


def known_classes(spec: DataSpec) -> tuple[str, ...] | None:
    """Names of the classes that a model of these data knows: those of its label maps, or of its images."""
    maps = None if spec.other is None else spec.other.label_maps
    return spec.class_names if maps is None else maps.names


def settle(loop: TrainingLoop) -> None:
    """Wait until the last checkpoint has its name on every disk; only then are those beyond the limit removed.

    Every process must call this alike.

    Raises:
        UserError: It could not be read again, or not be named.
    """
    if loop.unsettled is None:
        return
    step, finishing = loop.unsettled
    loop.unsettled = None
    with together(loop.accelerator), checkpointing.writing(f"checkpoint-{step}", loop.output_dir):
        if finishing is not None:
            finishing.result()
    with together(loop.accelerator), checkpointing.writing(f"checkpoint-{step}", loop.output_dir):
        if loop.writes:
            checkpointing.prune(loop.output_dir, loop.args.checkpoints_total_limit)
    if loop.best is not None:
        with together(loop.accelerator), checkpointing.writing("the best networks", loop.output_dir):
            loop.best.prune()


def _write_shared(loop: TrainingLoop, folder: Path) -> None:
    if not loop.writes:
        return
    checkpointing.begin(loop.output_dir, loop.step)
    for name, network in loop.networks.items():
        if name in loop.objective.frozen:
            checkpointing.save_once(network, loop.output_dir / checkpointing.FROZEN / name)
        else:
            network.save_pretrained(str(folder / "networks" / name))
    for name, average in loop.averages.items():
        average.network.save_pretrained(str(folder / "ema" / name))
    scaler = loop.accelerator.scaler
    state = {
        "optimizers": {} if loop.args.zero_redundancy_optimizer else _optimizer_states(loop),
        "ema_steps": {name: average.average.optimization_step for name, average in loop.averages.items()},
        "scaler": scaler.state_dict() if scaler is not None else None,
        "way": loop.way,
        "step": loop.step,
        "consumed": loop.consumed,
        "history": {name: points for name, points in loop.history.items() if name != DATA_WAIT},
        "seconds": loop.seconds,
        **({} if loop.best is None else {"best": loop.best.state_dict()}),
    }
    save_state(state, folder / "state.pt")


def _write_own(loop: TrainingLoop, folder: Path) -> None:
    mine = {
        "random": random_state(),
        "stream": loop.batches.state(loop.consumed),
        "objective": loop.objective.state_dict(),
        "optimizers": _optimizer_states(loop) if loop.args.zero_redundancy_optimizer else {},
        # of the steps since the last log, where a signal has stopped the run between two
        "recorded": {name: torch.stack(values).cpu() for name, values in loop.recorded.values.items()},
        "recorded_steps": loop.recorded.steps,
        "gradient_norms": {name: norm.cpu() for name, norm in loop.gradient_norms.items()},
    }
    save_state(mine, own_file(loop, folder))


def own_file(loop: TrainingLoop, checkpoint: Path) -> Path:
    """Where the state lies that each process has of its own."""
    return checkpoint / f"process-{loop.accelerator.process_index}.pt"


def restore(loop: TrainingLoop, checkpoint: Path) -> None:
    """Continue where `checkpoint` was written; `checkpointing.verify` has found it whole and of this run.

    Raises:
        UserError: A file does not hold what a checkpoint of this run holds, or belongs to another process.
    """
    for name, network in loop.networks.items():
        folder = checkpointing.folder_of(checkpoint, name)
        with holding_state(folder, checkpoint):
            network.load_state_dict(load_network(type(network), folder).state_dict())
    for name, average in loop.averages.items():
        folder = checkpoint / "ema" / name
        with holding_state(folder, checkpoint):
            average.network.load_state_dict(load_network(type(average.network), folder).state_dict())
    with holding_state(checkpoint / "state.pt", checkpoint):
        state = load_state(checkpoint / "state.pt")
        if state["step"] != read_json(checkpoint / checkpointing.MANIFEST)["step"]:
            raise ValueError(f"its step is {state['step']}")
        _restore_shared(loop, state)
        if loop.best is not None:
            loop.best.load_state_dict(state["best"], checkpoint)
    with holding_state(own_file(loop, checkpoint), checkpoint):
        _restore_own(loop, load_state(own_file(loop, checkpoint)))


@contextmanager
def holding_state(path: Path, checkpoint: Path) -> Iterator[None]:
    """Turn what a file of another content makes of the block into one line; its content is checked by its use.

    Raises:
        UserError: Names the file and the checkpoint before this one.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {checkpointing.earlier(checkpoint)}") from None
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        said = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise UserError(
            f"{path} does not hold what a checkpoint of this run holds ({said}); {checkpointing.earlier(checkpoint)}"
        ) from None


def _restore_shared(loop: TrainingLoop, state: dict[str, Any]) -> None:
    for name, average in loop.averages.items():
        average.average.optimization_step = _whole(state["ema_steps"][name])
    if not loop.args.zero_redundancy_optimizer:
        _restore_optimizers(loop, state["optimizers"])
    if loop.accelerator.scaler is not None:
        loop.accelerator.scaler.load_state_dict(state["scaler"])
    if loop.args.fast:
        loop.way = state["way"]
        if loop.way not in WAYS:
            raise ValueError(f"{loop.way!r} is no way of --fast")
    loop.step, loop.consumed = _whole(state["step"]), _whole(state["consumed"])
    loop.history = {
        str(name): [(_whole(step), float(value)) for step, value in points]
        for name, points in state["history"].items()
    }
    loop.seconds = float(state["seconds"])


def _restore_own(loop: TrainingLoop, mine: dict[str, Any]) -> None:
    loop.objective.load_state_dict(mine["objective"])
    if loop.batches.stream is not None:
        loop.stream_state = loop.batches.stream.restored(loop.consumed, mine.get("stream"))
    if loop.args.zero_redundancy_optimizer:
        _restore_optimizers(loop, mine["optimizers"])
    set_random_state(mine["random"])
    device = loop.accelerator.device
    recorded = mine.get("recorded", {})
    loop.recorded.values = {name: list(values.to(device)) for name, values in recorded.items()}
    loop.recorded.steps = mine.get("recorded_steps", {})
    loop.gradient_norms = mine.get("gradient_norms", {})


def _optimizer_states(loop: TrainingLoop) -> dict[str, Any]:
    return {name: own_share(optimizer, loop.args).state_dict() for name, optimizer in loop.optimizers.items()}


def _restore_optimizers(loop: TrainingLoop, states: dict[str, Any]) -> None:
    for name, optimizer in loop.optimizers.items():
        _restore_optimizer(own_share(optimizer, loop.args), states[name])


def _restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """`load_state_dict`, which looks neither at the shapes of moments nor at the types of options."""
    options = [{name: type(value) for name, value in group.items()} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, types in zip(optimizer.param_groups, options, strict=True):
        for name, kind in types.items():
            if not isinstance(group[name], kind):
                raise TypeError(f"{name} is {type(group[name]).__name__}")
        for parameter in group["params"]:
            for name, value in optimizer.state[parameter].items():
                if not isinstance(value, Tensor) or value.shape not in ((), parameter.shape):
                    raise ValueError(f"{name} is no tensor of shape {tuple(parameter.shape)}")


def _whole(number: Any) -> int:
    if not isinstance(number, int) or number < 0:
        raise ValueError(f"{number!r} is no whole number")
    return number


def save_state(state: dict[str, Any], path: Path) -> None:
    """`torch.save` into a file of Python's: given a path, torch would not tell why a write failed."""
    with path.open("wb") as file:
        torch.save(state, file)


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote: tensors and plain values, no code.

    Raises:
        ValueError: The file holds something else.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # a forged file makes torch raise anything, and advise to let its code run
        raise ValueError(f"{type(error).__name__} in torch.load") from None
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}")
    return state


def random_state() -> dict[str, Any]:
    """State of torch's default generators, which only dropout uses."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_random_state(state: dict[str, Any]) -> None:
    """Undo `random_state`."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
