"""Several processes that share the batches of an evaluation, and together make the numbers that one makes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import UserError
from ..processes import PATIENCE, gather, let_collectives_end, together

T = TypeVar("T")


class Processes:
    """The processes of a launcher (`torchrun`, `accelerate launch`), or this one alone.

    What they tell each other lies in main memory, so they speak by gloo on GPUs as well.

    Args:
        group: By which they speak, where they are a training run's; all processes by default.

    Attributes:
        rank: This process; 0 writes.
        number: How many there are.
    """

    def __init__(self, group: Any = None) -> None:
        self.group = group
        self.number = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = 0
        if self.number > 1:
            if not torch.distributed.is_initialized():
                torch.distributed.init_process_group("gloo", timeout=PATIENCE)
            self.rank = torch.distributed.get_rank()
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def to_main(self, value: T) -> list[T]:
        """The values of all, in the main process; in the others nothing."""
        if self.number == 1:
            return [value]
        values: list[Any] = [None] * self.number
        torch.distributed.gather_object(value, values if self.is_main else None, group=self.group)
        return values if self.is_main else []

    def of_main(self, value: T) -> T:
        """The main process's value, in all."""
        values = [value]
        if self.number > 1:
            torch.distributed.broadcast_object_list(values, group=self.group)
        return values[0]

    def of_all(self, value: T) -> list[T]:
        """The values of all, in each of them."""
        return [value] if self.number == 1 else gather(value, self.group)

    def leave(self) -> None:
        """Leave the group, at the end of a program: gloo's threads must not outlive the interpreter."""
        if self.number > 1:
            let_collectives_end()
            torch.distributed.destroy_process_group()

    def together(self) -> AbstractContextManager[None]:
        """See `hf_genmodels.processes.together`, among these."""
        return together(self.of_all)


class Turns:
    """A generator whose numbers go to the batches in turn, whichever process has the batch.

    What the batches of other processes would draw is drawn and thrown away: a process learns from one batch what that
    is. `seen` lets `check_turns` find out whether it was so.

    Args:
        generator: In the same state in all processes.
        processes: They.
    """

    def __init__(self, generator: Generator, processes: Processes) -> None:
        self.generator = generator
        self.processes = processes
        self.drawn = 0  # batches
        self.draws: list[Callable[[], object]] | None = None
        self.seen: dict[int, tuple[str, str]] = {}

    def run(self, batch: int, examples: Tensor, size: int, make: Callable[[Tensor, Generator], T]) -> T:
        """`make(examples, generator)`, with the generator as the batches before this one leave it.

        Args:
            batch: Its number, counted from 0 over all processes.
            examples: Of the batch.
            size: How many examples all batches before the last have.
            make: What draws.
        """
        if self.processes.number == 1:
            return make(examples, self.generator)
        if self.draws is None and batch > 0:
            state = self.generator.get_state()
            with _Draws() as learnt:
                make(examples[torch.arange(size) % len(examples)], self.generator)
            self.generator.set_state(state)
            self.draws = learnt.draws
        for _ in range(self.drawn, batch):
            for draw in self.draws or ():
                draw()
        before = self._state()
        if self.draws is None:
            with _Draws() as learnt:
                made = make(examples, self.generator)
            self.draws = learnt.draws
        else:
            made = make(examples, self.generator)
        self.drawn = batch + 1
        self.seen[batch] = before, self._state()
        return made

    def _state(self) -> str:
        return hashlib.sha256(self.generator.get_state().numpy().tobytes()).hexdigest()


class _Draws(TorchDispatchMode):
    """Notes what is drawn from generators, so that it can be drawn again."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[Callable[[], object]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(isinstance(each, Generator) for each in (*args, *kwargs.values())):
            # of tensors that are filled or looked at, the shape says how much is drawn
            empty = [_Shape(each) if isinstance(each, Tensor) else each for each in args]
            self.draws.append(
                lambda: func(*(each.tensor() if isinstance(each, _Shape) else each for each in empty), **kwargs)
            )
        return func(*args, **kwargs)


class _Shape:
    def __init__(self, tensor: Tensor) -> None:
        self.options: dict[str, Any] = {"size": tensor.shape, "dtype": tensor.dtype, "device": tensor.device}

    def tensor(self) -> Tensor:
        return torch.zeros(**self.options)


def check_turns(seen: list[dict[int, tuple[str, str]]]) -> None:
    """Whether each batch began with the generator's state that the one before had left, by the `Turns.seen` of all.

    Raises:
        UserError: It did not.
    """
    batches = {batch: states for each in seen for batch, states in each.items()}
    for batch in range(1, len(batches)):
        if batches[batch][0] != batches[batch - 1][1]:
            raise UserError(
                f"what this pipeline draws at random differs from batch to batch (batch {batch}), so that processes "
                "cannot share the batches: evaluate in one process"
            )
