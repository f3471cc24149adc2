"""Ending a run early: SIGINT (Ctrl-C) or SIGTERM asks for it, and all processes stop after the same step."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import torch
from accelerate import Accelerator

from .together import patient_group


class Stopped(KeyboardInterrupt):
    """The run has stopped early, as it was told to.

    Attributes:
        signal: What told it.
    """

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(f"stopped by {received.name}")
        self.signal = received


class StopSignals:
    """Takes the first SIGINT or SIGTERM as a request to stop at the next opportunity; a second one ends at once.

    A context manager: inside it, signals are received (in the main thread, the only one that Python gives them to; one
    that is ignored stays ignored). After the first, and at the end, whoever handled them before does so again.

    Args:
        accelerator: Whose processes must agree.

    Attributes:
        received: What this process was sent.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._underway: tuple[Any, torch.Tensor] | None = None

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):  # None: not Python's to restore
                    self._before[number] = handler
                    signal.signal(number, self._receive)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._restore()
        if error is None:
            self._exchanged()  # nothing is to be underway when the processes part

    def _receive(self, number: int, _: object) -> None:
        self.received = signal.Signals(number)
        self._restore()
        if self.accelerator.is_main_process:
            # `print` may be what was interrupted, and cannot be entered twice
            os.write(2, f"\n{self.received.name}: stopping after this step; a second one ends at once\n".encode())

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def agreed(self) -> signal.Signals | None:
        """What stops the run here, the same for all processes, each of which must call this alike.

        Several processes look at what they had received when they called this before: that has been exchanged behind
        the step since, and costs them no waiting.
        """
        if self.accelerator.num_processes == 1:
            return self.received
        number = self._exchanged()
        if number:
            return signal.Signals(number)
        mine = torch.tensor(0 if self.received is None else int(self.received))
        work = torch.distributed.all_reduce(mine, torch.distributed.ReduceOp.MAX, group=patient_group(), async_op=True)
        self._underway = work, mine
        return None

    def _exchanged(self) -> int:
        if self._underway is None:
            return 0
        work, most = self._underway
        work.wait()
        self._underway = None
        return int(most)
