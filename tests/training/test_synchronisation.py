"""Between two logs a step asks the device for nothing: the host would wait until all that was queued is done."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from hf_genmodels.families import FAMILIES
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.entry import make_run
from hf_genmodels.training.loop import TrainingLoop
from tests.testing_utils.family_runs import RUNS, build, load

# Their results, or the shapes of those, are known to the host only when the device has come so far; `lift_fresh` makes
# a tensor of Python's numbers, whose copy is waited for.
WAITING = {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "equal"}
WAITING |= {
    "lift_fresh",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "bincount",
    "repeat_interleave",
    "linalg_eigh",
}


class Watching(TorchDispatchMode):
    """Counts the operations that a GPU's host would have to wait at, but those in `one_hot`: on a GPU it has none."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: Counter[str] = Counter()
        self.unwatched = WithoutOneHot(self)

    def __enter__(self) -> Watching:
        self.unwatched.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.unwatched.__exit__(*error)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        chosen_by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in WAITING or chosen_by_mask:
            self.waited[name] += 1
        return function(*args, **(kwargs or {}))


class WithoutOneHot(TorchFunctionMode):
    """Takes back what a watch has counted in `one_hot`."""

    def __init__(self, watch: Watching) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self.watch.waited.copy()
        result = function(*args, **(kwargs or {}))
        if function is torch.nn.functional.one_hot:
            self.watch.waited = before
        return result


@contextmanager
def refused_by_cuda() -> Iterator[None]:
    """A GPU's host may not wait."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def begun(name: str, folder: Path, steps: int) -> TrainingLoop:
    """A run that has taken two steps, with the batches of `steps` more read."""
    args = TrainingArguments(str(folder), train_batch_size=8, max_train_steps=100, log_steps=90, num_threads=1)
    args.use_ema, args.max_grad_norm, args.checkpointing_steps = True, 10.0, 0
    data = load(name)
    loop = make_run(build(name, data.spec), data, args, Accelerator(), {})
    assert isinstance(loop, TrainingLoop)
    loop.prepare(None)
    loop.training_step()
    loop.training_step()
    loop.stream = itertools.chain([loop.to_device(next(loop.stream)) for _ in range(8 * steps)])
    return loop


TRAINED = [name for name, (family, _) in RUNS.items() if not FAMILIES[family].is_fitted]


@pytest.mark.parametrize("name", TRAINED)
def test_no_operation_of_a_step_makes_the_host_wait(name: str, tmp_path: Path) -> None:
    loop = begun(name, tmp_path, 2)
    with Watching() as watch:
        loop.training_step()
        loop.training_step()
    assert not watch.waited


def test_one_that_does_is_seen() -> None:
    values = torch.arange(3.0)
    waits = (values[0].item, values.nonzero, lambda: bool(values.sum()), lambda: values[values > 1])
    for wait in (*waits, lambda: torch.tensor([1.0])):
        with Watching() as watch:
            wait()
        assert watch.waited


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", TRAINED)
def test_no_step_waits_for_a_gpu(name: str, tmp_path: Path) -> None:
    loop = begun(name, tmp_path, 2)
    with refused_by_cuda():
        loop.training_step()
        loop.training_step()
