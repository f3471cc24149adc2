"""Processes that decode ahead, and what becomes of batches on their way to the networks."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from hf_genmodels.data import DataArguments, DataSpec, TrainingBatches, evaluation_batches, load_data
from hf_genmodels.data.placing import Place, one_ahead, placed, to_network
from hf_genmodels.data.workers import available_cores, workers_for
from tests.testing_utils.refusals import refused


@pytest.fixture
def lazy(folder, arguments, random):
    """Images of several sizes."""
    files = {f"{i:02}.png": random.integers(0, 256, (8, 8 + i % 3, 3), dtype=np.uint8) for i in range(20)}
    return load_data(arguments(train_data_dir=str(folder(files)), resolution=8, random_flip=True), seed=0).train


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_how_many_workers(lazy, monkeypatch):
    in_memory = load_data(DataArguments(dataset_name="builtin:digits"), seed=0).train
    assert [workers_for(in_memory, number) for number in (None, 0, 7)] == [0, 0, 0]
    assert [workers_for(lazy, number) for number in (0, 7)] == [0, 7]
    for processes in (1, 2, 1000):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert workers_for(lazy, None) == min(4, max(1, available_cores() // processes))
    assert DataArguments().dataloader_num_workers is None


def test_held_out_images_are_decoded_by_workers(lazy):
    state = torch.get_rng_state()
    expected = list(evaluation_batches(lazy, batch_size=3, rank=1, world_size=2))
    batches = evaluation_batches(lazy, batch_size=3, rank=1, world_size=2, num_workers=2)
    found = [next(batches)]
    assert len(multiprocessing.active_children()) == 2
    found += batches
    assert all(same(a, b) for a, b in zip(expected, found, strict=True))
    assert torch.equal(state, torch.get_rng_state())
    assert not multiprocessing.active_children()
    batches = evaluation_batches(lazy, batch_size=20, num_workers=2)
    assert len(next(batches)["image"]) == 20 and not multiprocessing.active_children()


def test_closing_ends_the_workers(lazy):
    batches = TrainingBatches(lazy, batch_size=2, num_workers=2).start(0)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert not multiprocessing.active_children()


def test_a_killed_worker_is_one_line(lazy):
    batches = TrainingBatches(lazy, batch_size=2, num_workers=1).start(0)
    next(batches)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    with refused("was killed, maybe for lack of memory: give fewer --dataloader_num_workers"):
        list(itertools.islice(batches, 100))


@pytest.mark.slow
def test_workers_end_with_a_killed_process(lazy, tmp_path):
    """They look for it every few seconds."""
    program = f"""
import multiprocessing, os, signal
from hf_genmodels.data import DataArguments, TrainingBatches, load_data
train = load_data(DataArguments(train_data_dir={str(tmp_path / "images")!r}, resolution=8), seed=0).train
batches = TrainingBatches(train, batch_size=2, num_workers=2).start(0)
next(batches)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    printed = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True).stdout
    workers = [int(word) for word in printed.split()]
    assert len(workers) == 2
    deadline = time.monotonic() + 30
    while any(is_running(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("dtype", "scale"), [("uint8", 255.0), ("uint8", 16.0), ("uint16", 65535.0), ("uint16", 4095.0)]
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_what_networks_see(dtype, scale, channels_last):
    """Bit for bit what dividing, doubling and subtracting in float32 gives."""
    values = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(2, 2, 8, -1)
    spec = DataSpec("x", 2, values.shape[2:], scale, None, 2, "")
    expected = torch.from_numpy(values.astype(np.float32)).div(scale).mul(2).sub(1)
    found = to_network(torch.from_numpy(values), spec, channels_last)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_batches_are_placed(lazy):
    options = {"batch_size": 4, "seed": 3}
    plain = TrainingBatches(lazy, **options).start(0)
    there = TrainingBatches(lazy, **options).start(0, place=Place(torch.device("cpu"), channels_last=True))
    for expected, found in itertools.islice(zip(plain, there, strict=True), 3):
        assert same(expected, found)
        assert found["image"].is_contiguous(memory_format=torch.channels_last)
    stored = iter([{"image": torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "index": torch.zeros(1)}])
    (batch,) = placed(stored, {"image": lazy.spec}, Place())
    assert batch["image"].dtype == torch.float32 and (batch["image"] == -1).all() and (batch["index"] == 0).all()


def test_items_are_made_one_ahead():
    made = []

    def items():
        for item in range(3):
            made.append(item)
            yield item
        raise ValueError("the fourth")

    ahead = one_ahead(items())
    assert [(next(ahead), list(made)) for _ in range(3)] == [(0, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2])]
    with pytest.raises(ValueError, match="the fourth"):  # told when it is due, not before
        next(ahead)
    assert list(one_ahead(iter("abc"))) == ["a", "b", "c"] and list(one_ahead(iter(()))) == []
