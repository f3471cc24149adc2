"""An optimiser for each network: which one, its options, and learning rates of its own where the family gives them.

Several processes can share the optimisers' states between them: stage 1 of "ZeRO: Memory Optimizations Toward Training
Trillion Parameter Models", Rajbhandari et al. 2020, arXiv 1910.02054.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from hf_genmodels.errors import UserError
from hf_genmodels.objectives.base import Objective

from .arguments import TrainingArguments

# Fused ones take a third of the time of torch's default on a CPU; RMSprop has no such form.
OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adamw": (torch.optim.AdamW, {"fused": True}),
    "adam": (torch.optim.Adam, {"fused": True}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "sgd": (torch.optim.SGD, {"fused": True}),
}


def parameter_groups(objective: Objective, name: str, args: TrainingArguments) -> tuple[str, list[dict[str, Any]]]:
    """The optimiser of a network, and the groups of `Objective.param_groups` as it takes them.

    Each group has an "lr_scale" that the loop multiplies its rate by.

    Raises:
        UserError: A group's own learning rate is not positive, its optimiser is unknown or another one than that of
            the network's other groups, or has no such option.
    """
    groups = [dict(group) for group in objective.param_groups(name)]
    kinds = {group.pop("optimizer", args.optimizer) for group in groups}
    if len(kinds) > 1:
        raise UserError(f"{name}: its parameter groups name several optimisers: {', '.join(sorted(kinds))}")
    (kind,) = kinds
    if kind not in OPTIMIZERS:
        raise UserError(f"{name}: unknown optimiser {kind!r}; choose one of {', '.join(OPTIMIZERS)}")
    known = {*inspect.signature(OPTIMIZERS[kind][0]).parameters, "lr"}
    for group in groups:
        own = group.pop("lr", args.learning_rate)
        if not own > 0:
            raise UserError(f"the learning rate of {name} must be positive, got {own}")
        unknown = sorted(group.keys() - known)
        if unknown:
            raise UserError(f"{name}: {kind} has no option {unknown[0]!r}, which a parameter group gives")
        group["lr_scale"] = own / args.learning_rate
    return kind, groups


def make_optimizer(objective: Objective, name: str, args: TrainingArguments) -> torch.optim.Optimizer:
    """The optimiser of one network, with the options of `args` that it knows.

    With `zero_redundancy_optimizer` each process updates its share of the parameters, whose states it alone holds, and
    sends them to the others. They are sent one by one: buckets of them would undo the layout of their memory.
    """
    kind, groups = parameter_groups(objective, name, args)
    optimizer_class, options = OPTIMIZERS[kind]
    options = {"lr": args.learning_rate, "weight_decay": args.adam_weight_decay, **options}
    if kind in ("adamw", "adam"):
        options |= {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
    if args.zero_redundancy_optimizer:
        from torch.distributed.optim import ZeroRedundancyOptimizer  # takes a quarter of a second

        return ZeroRedundancyOptimizer(groups, optimizer_class, **options)
    return optimizer_class(groups, **options)


def own_share(optimizer: Any, args: TrainingArguments) -> torch.optim.Optimizer:
    """The optimiser that holds the states of this process: itself, or its part of a `ZeroRedundancyOptimizer`."""
    share: torch.optim.Optimizer = optimizer.optim if args.zero_redundancy_optimizer else optimizer
    return share
