"""Strict loading of networks and schedulers: safetensors and JSON only, the right class, every weight there."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError, safe_open

from .choices import PredictionType
from .configs import check_types, shorten
from .errors import UserError
from .files import read_json

NetworkT = TypeVar("NetworkT", bound=ModelMixin)
Auto = Literal["auto"]

DTYPES = {str(kind).removeprefix("torch."): kind for kind in (torch.float32, torch.float16, torch.bfloat16)}
DTYPES["float64"] = torch.float64
IN_SAFETENSORS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
WEIGHTS = "diffusion_pytorch_model"
MOST_TIME_STEPS = 1_000_000
# What constructors and libraries raise at values that they cannot do anything with.
BAD_VALUES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    TypeError,
)
BAD_FILES = (OSError, RuntimeError, ValueError, SafetensorError)


# networks ------------------------------------------------------------------------------------------------------------


def load_network(
    network_class: type[NetworkT],
    folder: Path,
    *,
    dtype: torch.dtype | Auto | None = None,
    variant: str | None = None,
    low_cpu_mem_usage: bool = True,
) -> NetworkT:
    """Load a network saved by `save_pretrained`, in eval mode.

    diffusers only warns of a missing weight and leaves it on the meta device; here that is an error.

    Args:
        network_class: The class the folder must have been saved from.
        folder: Holds `config.json` and `diffusion_pytorch_model[.variant].safetensors`, or shards and their index.
        dtype: Of the weights; "auto" for that of the saved ones, float32 by default.
        variant: Such as "fp16", part of the weights' file name.
        low_cpu_mem_usage: As in diffusers; False first builds the network with weights of its own.

    Raises:
        UserError: Another class, impossible values in its configuration, no safetensors file, a damaged one, or
            missing, extra or misshapen weights.
    """
    config_path = folder / "config.json"
    config = read_json(config_path)
    # as diffusers writes it, or as transformers does
    saved_class = config.get("_class_name") or "".join(map(str, config.get("architectures") or [])) or None
    if saved_class != network_class.__name__:
        raise UserError(f"{folder} holds a {saved_class}, not a {network_class.__name__}")
    check_types(config_path, network_class, config)
    check_shards(folder, variant)
    default_dtype = torch.get_default_dtype()
    try:
        with _quiet("diffusers.models"):
            network, info = network_class.from_pretrained(
                str(folder),
                dtype=saved_dtype(folder, variant) if dtype == "auto" else dtype,
                variant=variant,
                use_safetensors=True,
                low_cpu_mem_usage=low_cpu_mem_usage,
                output_loading_info=True,
            )
    except (UserError, *BAD_VALUES) as error:
        raise _impossible(config_path, error) from error
    except BAD_FILES as error:
        _try_to_build(network_class, config_path, config)
        # what diffusers advises from here on are options that do not exist here
        reason = _in_one_line(error).partition(" If you want to instead overwrite")[0]
        raise UserError(f"{folder}: the weights cannot be loaded: {reason}") from error
    finally:
        torch.set_default_dtype(default_dtype)  # diffusers leaves another one behind where a constructor fails
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            keys = [str(key) for key in info[kind]]
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise UserError(f"{folder}: {kind.replace('_', ' ')} in the checkpoint: {', '.join(keys[:3])}{more}")
    # safetensors leaves them at addresses by which sums are rounded in other ways than before saving
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = tensor.data.clone()
    # diffusers notes where the weights came from; a folder of this machine has no place in what is saved next.
    if isinstance(network, ModelMixin):
        network.register_to_config(_name_or_path="")
    return network


def _try_to_build(network_class: Any, config_path: Path, config: dict[str, Any]) -> None:
    """Find out whether a network cannot even be built, so that its weights are not blamed.

    Raises:
        UserError: It cannot.
    """
    if not issubclass(network_class, ModelMixin):
        return
    try:
        with _quiet("diffusers"), torch.device("meta"):
            network_class.from_config(config)
    except (*BAD_VALUES, *BAD_FILES) as error:
        raise _impossible(config_path, error) from error


def load_scheduler(scheduler_class: Any, folder: Path) -> Any:
    """Load a scheduler saved by `save_pretrained`.

    Args:
        scheduler_class: A `SchedulerMixin`; the folder may have been saved from another one that goes with it.
        folder: Holds `scheduler_config.json`.

    Raises:
        UserError: The file is missing or damaged, or has impossible values.
    """
    path = folder / scheduler_class.config_name
    config = read_json(path)
    check_types(path, scheduler_class, config)
    check_time_steps(str(path), config)
    try:
        scheduler = scheduler_class.from_pretrained(str(folder))
    except (*BAD_VALUES, *BAD_FILES) as error:
        raise _impossible(path, error) from error
    check_noise(str(path), scheduler)
    return scheduler


def check_time_steps(where: str, config: Mapping[str, Any]) -> None:
    """Refuse numbers of time steps that no schedule has, before one is computed.

    Args:
        where: What the configuration is called in the message.
        config: Of a scheduler.

    Raises:
        UserError: There are none, or more than a million.
    """
    steps = config.get("num_train_timesteps", 1)
    if not 1 <= steps <= MOST_TIME_STEPS:
        raise UserError(f"{where}: num_train_timesteps must lie between 1 and {MOST_TIME_STEPS}, got {steps}")


def check_noise(where: str, scheduler: Any) -> None:
    """Refuse noise and predictions that schedulers take, and fail at later or not at all.

    Args:
        where: What its configuration is called in the message.
        scheduler: Any; those with another kind of noise have no `betas`.

    Raises:
        UserError: No time steps, betas outside (0, 1] or not as many as steps, or an unknown `prediction_type`.
    """
    betas, predicts = getattr(scheduler, "betas", None), scheduler.config.get("prediction_type", "epsilon")
    if betas is not None and (not len(betas) or not (betas > 0).all() or not (betas <= 1).all()):
        raise UserError(f"{where} has an impossible value: there must be betas, all in (0, 1]")
    steps = scheduler.config.get("num_train_timesteps")
    if scheduler.config.get("trained_betas") is not None and len(scheduler.config.trained_betas) != steps:
        given = len(scheduler.config.trained_betas)
        raise UserError(f"{where}: there are {given} trained_betas for num_train_timesteps {steps}; give as many")
    if predicts not in get_args(PredictionType):
        known = ", ".join(get_args(PredictionType))
        raise UserError(f"{where}: prediction_type must be one of {known}, got {shorten(repr(predicts))}")


# weights -------------------------------------------------------------------------------------------------------------


def find_dtype(dtype: Any) -> torch.dtype | Auto | None:
    """What a user calls the type of weights -> torch's, "auto", or None for the default.

    Raises:
        UserError: It is neither of these, or no type to compute with.
    """
    if dtype is None:
        return None
    if isinstance(dtype, str) and dtype == "auto":
        return "auto"
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found not in DTYPES.values():
        names = ", ".join(f"torch.{name}" for name in DTYPES)
        raise UserError(f"dtype must be {names}, one of these as a word, or 'auto', got {dtype!r}")
    return found


def weight_files(variant: str | None) -> re.Pattern[str]:
    """Matches the names of the files that hold a variant's weights, and of their indices, old and new."""
    part = "" if variant is None else re.escape(f".{variant}")
    shards = r"(-\d+-of-\d+)?"
    return re.compile(
        rf"{WEIGHTS}({part}{shards}\.safetensors|{shards}{part}\.safetensors"
        rf"|\.safetensors\.index{part}\.json|\.safetensors{part}\.index\.json)"
    )


def check_shards(folder: Path, variant: str | None) -> None:
    """Refuse an index that names anything but safetensors files of its own folder: torch would unpickle others.

    Every index of the folder is looked at; that the files are there is asked only of the one that is read.

    Raises:
        UserError: It does, names what is not there, or is no index.
    """
    for path in sorted(folder.glob("*.index*.json")):
        index = read_json(path)
        shards = index.get("weight_map")
        if not isinstance(shards, dict) or not isinstance(index.get("metadata"), dict):
            raise UserError(f"{path} is no index of weights: it needs a weight_map and metadata")
        is_read = path.name in (_index_name(variant), _old_index_name(variant))
        for name in dict.fromkeys(map(json.dumps, shards.values())):
            shard = json.loads(name)
            if not isinstance(shard, str) or re.search(r"[/\\\0]", shard) or not shard.endswith(".safetensors"):
                raise UserError(
                    f"{path} names {shorten(name)}, which is no safetensors file of its folder; nothing else is loaded"
                )
            if is_read and shard not in os.listdir(folder):  # which has no limit on the length of a name
                raise UserError(f"{path} names {shard}, which is not there; copy or download the whole folder")


def saved_dtype(folder: Path, variant: str | None) -> torch.dtype:
    """The floating type of a network's saved weights, the widest where they differ; float32 without any."""
    indices = [folder / name for name in (_index_name(variant), _old_index_name(variant))]
    index = next((path for path in indices if path.is_file()), None)
    names = {_weights_name(variant)} if index is None else set(read_json(index)["weight_map"].values())
    kinds = set()
    for name in names:
        with safe_open(folder / name, "pt") as file:
            kinds |= {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118 - it is no dict
    floating = [IN_SAFETENSORS[kind] for kind in kinds if kind in IN_SAFETENSORS]
    return reduce(torch.promote_types, floating) if floating else torch.float32


def _weights_name(variant: str | None) -> str:
    return f"{WEIGHTS}.safetensors" if variant is None else f"{WEIGHTS}.{variant}.safetensors"


def _index_name(variant: str | None) -> str:
    return f"{WEIGHTS}.safetensors.index.json" if variant is None else f"{WEIGHTS}.safetensors.index.{variant}.json"


def _old_index_name(variant: str | None) -> str:
    return _index_name(None) if variant is None else f"{WEIGHTS}.safetensors.{variant}.index.json"


# words ---------------------------------------------------------------------------------------------------------------


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """No messages of a library's part below errors that stop it: what it would say of weights is an error here."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _impossible(path: Path, error: BaseException) -> UserError:
    return UserError(f"{path} has an impossible value: {_in_one_line(error)}")


def _in_one_line(error: BaseException) -> str:
    return shorten(" ".join(str(error).split()), 300) or type(error).__name__
