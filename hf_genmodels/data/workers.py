"""Processes that read and decode ahead of training."""

from __future__ import annotations

import signal

import fsspec.asyn


def begin_worker(_: int) -> None:
    """What a worker of a DataLoader does first.

    Terminals and schedulers tell every process to stop, but the run needs batches until its step is finished. And a
    lock that fsspec held when the process was forked would never be released.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    fsspec.asyn.reset_lock()
