"""Strict loading of one network: safetensors only, the right class, every weight there."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from diffusers import ModelMixin
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError

from .errors import UserError
from .files import read_json

NetworkT = TypeVar("NetworkT", bound=ModelMixin)


def load_network(
    network_class: type[NetworkT], folder: Path, *, dtype: torch.dtype | None = None, variant: str | None = None
) -> NetworkT:
    """Load a network saved by `save_pretrained`, in eval mode.

    diffusers only warns of a missing weight and leaves it on the meta device; here that is an error.

    Args:
        network_class: The class the folder must have been saved from.
        folder: Holds `config.json` and `diffusion_pytorch_model[.variant].safetensors`.
        dtype: Of the weights; float32 by default.
        variant: Such as "fp16", part of the weights' file name.

    Raises:
        UserError: Another class, no safetensors file, a damaged one, or missing, extra or misshapen weights.
    """
    config = read_json(folder / "config.json")
    # as diffusers writes it, or as transformers does
    saved_class = config.get("_class_name") or "".join(config.get("architectures", [])) or None
    if saved_class != network_class.__name__:
        raise UserError(f"{folder} holds a {saved_class}, not a {network_class.__name__}")
    verbosity, default_dtype = diffusers_logging.get_verbosity(), torch.get_default_dtype()
    diffusers_logging.set_verbosity(diffusers_logging.CRITICAL)
    try:
        network, info = network_class.from_pretrained(
            str(folder), dtype=dtype, variant=variant, use_safetensors=True, output_loading_info=True
        )
    except (UserError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'config.json'} has an impossible value: {error}") from error
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        # what diffusers advises from here on are options that do not exist here
        reason = " ".join(str(error).split()).partition(" If you want to instead overwrite")[0]
        raise UserError(f"{folder}: the weights cannot be loaded: {reason}") from error
    finally:
        diffusers_logging.set_verbosity(verbosity)
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
