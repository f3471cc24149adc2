"""Streams of many shards: shared out by shards, gone on with from their state, each example once an epoch."""

from __future__ import annotations

import io
import itertools
import logging
from collections import Counter

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hf_genmodels.data import DataArguments, TrainingBatches, evaluation_batches, load_data
from hf_genmodels.data.lanes import Lane, count_lanes
from hf_genmodels.data.streams import ROWS_OF_A_SHARD, ShardReader
from tests.testing_utils.refusals import refused

POINT = datasets.Features({"point": datasets.List(datasets.Value("float32")), "label": datasets.Value("int64")})


@pytest.fixture
def shards(tmp_path, arguments):
    """Writes a folder of parquet shards with so many rows each, and opens it as a stream; a row is (shard, row)."""

    def make(lengths, row_group=3, **options):
        root = tmp_path / "shards"
        root.mkdir()
        for shard, length in enumerate(lengths):
            points = [[float(shard), float(row)] for row in range(length)]
            columns = {"point": points, "label": [row % 2 for row in range(length)]}
            table = pa.Table.from_pydict(columns, schema=POINT.arrow_schema)
            path = root / f"train-{shard:05}-of-{len(lengths):05}.parquet"
            with pq.ParquetWriter(path, table.schema) as writer:
                if length:
                    writer.write_table(table, row_group)
        return load_data(
            arguments(dataset_name=str(root), image_column="point", streaming=True, **options), seed=0
        ).train

    return make


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def joined(batches):
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def take(dataset, count, position=0, state=None, **options):
    return list(itertools.islice(TrainingBatches(dataset, **options).start(position, state), count))


def rows_of(batches):
    return [divmod(index, ROWS_OF_A_SHARD) for batch in batches for index in batch["index"].tolist()]


class Reads:
    """Counts the rows that are read of each shard."""

    def __init__(self, monkeypatch):
        self.rows = []
        read = ShardReader.__iter__

        def counted(reader):
            for example in read(reader):
                self.rows.append((reader.shard, example.index % ROWS_OF_A_SHARD))
                yield example

        monkeypatch.setattr(ShardReader, "__iter__", counted)

    def taken(self):
        rows, self.rows = self.rows, []
        return rows


def test_the_index_is_the_shard_and_the_row(shards):
    dataset = shards([4, 6, 5])
    (batch,) = evaluation_batches(dataset, batch_size=20)
    assert rows_of([batch]) == [(s, r) for s, length in enumerate([4, 6, 5]) for r in range(length)]
    assert [tuple(point) for point in batch["image"].int().tolist()] == rows_of([batch])


@pytest.mark.parametrize(
    ("num_shards", "batch", "world", "accumulation", "lanes"),
    [
        (1, 64, 1, 1, 1),
        (1000, 64, 1, 1, 16),
        (1000, 64, 4, 1, 16),
        (1000, 64, 2, 2, 16),
        (1000, 256, 64, 1, 256),
        (64, 64, 64, 1, 64),
        (7, 64, 1, 1, 4),
        (8, 6, 2, 1, 6),
        (17, 4, 1, 1, 4),
        (17, 32, 4, 1, 16),
        (40, 64, 8, 1, 32),
        (100, 64, 16, 1, 64),
        (3, 17, 1, 1, 1),
    ],
)
def test_numbers_of_lanes(num_shards, batch, world, accumulation, lanes):
    assert count_lanes(num_shards, batch, world, accumulation) == lanes


def test_64_processes_see_each_example_of_64_shards_once_an_epoch(shards, monkeypatch):
    dataset = shards([8] * 64)
    reads = Reads(monkeypatch)
    epochs = [[], []]
    for rank in range(64):
        batches = take(dataset, 4, batch_size=4, rank=rank, world_size=64)
        for epoch in range(2):
            epochs[epoch] += rows_of(batches[2 * epoch : 2 * epoch + 2])
        assert len({shard for shard, _ in reads.taken()}) <= 2  # one an epoch
    assert sorted(epochs[0]) == sorted(epochs[1]) == [(shard, row) for shard in range(64) for row in range(8)]
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(
    ("world", "accumulation", "workers"), [(1, 4, 0), (2, 1, 0), (2, 2, 0), (4, 1, 0), (4, 3, 0), (1, 1, 3), (2, 2, 3)]
)
@pytest.mark.parametrize("lengths", [[5] * 12, [9] * 4, [60]], ids=["12 shards", "4 shards", "1 shard"])
def test_however_the_work_is_split_the_batches_are_those_of_one(shards, lengths, world, accumulation, workers):
    dataset = shards(lengths, shuffle_buffer_size=40)
    whole = take(dataset, 7, batch_size=12)
    options = {"batch_size": 12 // world // accumulation, "accumulation": accumulation, "world_size": world}
    ranks = [take(dataset, 7 * accumulation, rank=rank, num_workers=workers, **options) for rank in range(world)]
    for update, expected in enumerate(whole):
        micro = [ranks[r][update * accumulation + m] for m in range(accumulation) for r in range(world)]
        assert same(joined(micro), expected)


@pytest.mark.parametrize("buffer", [1, 7, 40, 1000])
@pytest.mark.parametrize("lengths", [[5, 0, 9, 5], [60], [7] * 12], ids=["4 shards", "1 shard", "12 shards"])
def test_going_on_from_the_state_at_any_position(shards, lengths, buffer):
    if 0 in lengths:
        lengths = lengths * 4
    dataset = shards(lengths, shuffle_buffer_size=buffer)
    options = {"batch_size": 2, "accumulation": 2, "rank": 1, "world_size": 2}
    batches = TrainingBatches(dataset, **options)
    made, whole, states = batches.start(0), [], []
    for position in range(60):
        whole.append(next(made))
        states.append(batches.state(position + 1))
    for position in (1, 2, 3, 4, 10, 21, 30, 41, 50):
        state = torch.load(saved(states[position - 1]), weights_only=True)
        found = take(dataset, 6, position, state, **options)
        assert all(same(a, b) for a, b in zip(whole[position:], found, strict=False)), position


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


@pytest.mark.parametrize(("before", "after"), [(0, 3), (3, 0), (2, 3)])
def test_workers_may_change_at_any_position(shards, before, after):
    dataset = shards([5] * 12, shuffle_buffer_size=40)
    whole = take(dataset, 14, batch_size=6, accumulation=2)
    batches = TrainingBatches(dataset, batch_size=6, accumulation=2, num_workers=before)
    made = batches.start(0)
    for _ in range(8 + 2):  # two have been taken ahead
        next(made)
    found = take(dataset, 6, 8, batches.state(8), batch_size=6, accumulation=2, num_workers=after)
    assert all(same(a, b) for a, b in zip(whole[8:], found, strict=True))


def test_going_on_reads_little_again(shards, monkeypatch):
    dataset = shards([200] * 8, shuffle_buffer_size=40)
    options = {"batch_size": 8, "seed": 3}
    batches = TrainingBatches(dataset, **options)
    made = batches.start(0)
    whole = [next(made) for _ in range(151)]
    state = batches.state(150)
    reads = Reads(monkeypatch)
    (found,) = take(dataset, 1, 150, state, **options)
    assert same(found, whole[150])
    # of each of 8 lanes twice what its part of the buffer holds, and once more what is held back
    assert len(reads.taken()) <= 3 * 40 + 8
    (found,) = take(dataset, 1, 150, **options)
    assert same(found, whole[150]) and len(reads.taken()) > 1200


def test_examples_read_by_a_process_do_not_grow_with_their_number(shards, monkeypatch):
    dataset = shards([6] * 64)
    reads = Reads(monkeypatch)
    counts = {}
    for world in (1, 8, 64):
        take(dataset, 1, batch_size=4, rank=world - 1, world_size=world)
        counts[world] = len(reads.taken())
    assert counts[64] <= counts[8] <= counts[1] < 256
    take(dataset, 3, batch_size=4, rank=7, world_size=8)
    assert len({shard for shard, _ in reads.taken()}) <= 8 * 2


def test_the_buffer_decides_how_far_examples_move(shards):
    dataset = shards([3000], row_group=1000)

    def positions(buffer):
        dataset.shuffle_buffer = buffer
        return np.array([row for _, row in rows_of(take(dataset, 30, batch_size=100))])

    assert positions(1).tolist() == list(range(3000))
    for buffer in (50, 500):
        moved = positions(buffer)
        assert sorted(moved) == list(range(3000))
        distance = np.arange(3000) - moved
        assert distance.max() < 2 * buffer and distance.std() > buffer / 4
        # those read and not yet given out, when a batch has been
        held = [moved[:end].max() + 1 - end for end in range(1000, 2000, 100)]
        assert max(held) < 1.3 * buffer
    assert positions(5000)[:300].max() > 1500


def test_a_global_batch_may_be_larger_than_the_buffer(shards):
    dataset = shards([100] * 4, shuffle_buffer_size=10)
    rows = rows_of(take(dataset, 2, batch_size=200))
    assert sorted(rows) == [(shard, row) for shard in range(4) for row in range(100)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shuffle_buffer_size": 0}, "--shuffle_buffer_size 0 is not a positive number"),
        ({"shuffle_buffer_size": 10, "streaming": False}, "--shuffle_buffer_size has no meaning without --streaming"),
    ],
)
def test_buffers_that_are_refused(arguments, tmp_path, options, says):
    with refused(says):
        load_data(arguments(**{"train_data_dir": str(tmp_path), "streaming": True, **options}), 0)


def test_fewer_shards_than_processes_are_shared_and_told_of(shards, caplog):
    dataset = shards([16, 16])
    with caplog.at_level(logging.WARNING):
        ranks = [take(dataset, 4, batch_size=2, rank=rank, world_size=4) for rank in range(4)]
    assert sorted(rows_of(itertools.chain(*ranks))) == [(shard, row) for shard in range(2) for row in range(16)]
    (line,) = caplog.messages
    assert line.startswith("warning: ") and "2 shards" in line and "4 processes" in line and "4 examples" in line


@pytest.mark.parametrize(("lengths", "batch"), [([16] * 17, 8), ([16, 16, 16, 9], 4), ([20, 2], 2), ([8, 0, 8, 8], 4)])
def test_all_examples_come_equally_often_whatever_the_shards(shards, lengths, batch):
    dataset, epochs = shards(lengths), 60
    rows = rows_of(take(dataset, epochs * sum(lengths) // batch, batch_size=batch))
    seen = Counter(rows)
    assert set(seen) == {(shard, row) for shard, length in enumerate(lengths) for row in range(length)}
    views = [sum(seen[shard, row] for row in range(length)) / length for shard, length in enumerate(lengths) if length]
    assert views == pytest.approx([epochs] * len(views), rel=0.1)


def test_streams_without_enough_examples(shards):
    dataset = shards([20, 2, 20, 0])
    # one lane each for two processes has something
    assert len(take(dataset, 9, batch_size=1, world_size=2, rank=1)) == 9
    with refused(r"takes 3 examples at once, .* the 2 of shard 1 of split .*--train_batch_size"):
        take(dataset, 1, batch_size=12)


def test_streams_without_any_example_of_the_chosen_classes(shards):
    dataset = shards([1, 1])
    dataset.excluded = 0
    with refused("has too few examples for a global batch, which takes 2 of its shards in each of 2 parts"):
        take(dataset, 1, batch_size=4)


def test_an_excluded_class_and_the_first_examples(shards):
    dataset = shards([10] * 4, exclude_label="1")
    rows = rows_of(take(dataset, 5, batch_size=4))
    assert sorted(rows) == [(shard, row) for shard in range(4) for row in range(0, 10, 2)]
    dataset.excluded, dataset.limit = None, 16
    rows = rows_of(take(dataset, 2, batch_size=8))
    assert sorted(rows) == [(0, row) for row in range(10)] + [(1, row) for row in range(6)]
    parts = [rows_of(take(dataset, 2, batch_size=4, rank=rank, world_size=2)) for rank in range(2)]
    assert sorted(parts[0] + parts[1]) == sorted(rows)


def test_a_shard_that_cannot_be_read_is_named(shards, tmp_path):
    dataset = shards([4, 4, 4, 4])
    path = tmp_path / "shards" / "train-00002-of-00004.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    for workers in (0, 1):
        with refused(r"shard 2 of 4, split 'train' of shards cannot be read beyond its first 0 rows: "):
            take(dataset, 2, batch_size=4, num_workers=workers)


def test_a_stream_whose_beginning_cannot_be_read(shards, tmp_path):
    empty = pa.Table.from_pydict({"point": [], "label": []}, schema=POINT.arrow_schema)
    with refused(
        r"split 'train' of shards cannot be read: BatchSize"
    ):  # an empty row group, which `datasets` stops at
        (tmp_path / "shards").mkdir()
        pq.write_table(empty, tmp_path / "shards" / "train.parquet")
        load_data(DataArguments(dataset_name=str(tmp_path / "shards"), image_column="point", streaming=True), seed=0)


def test_rows_are_named_with_their_shard(shards):
    dataset = shards([4, 4])
    dataset.spec = dataset.spec.__class__(**{**vars(dataset.spec), "class_names": ("only",)})
    with refused(r"shard 1 of 2, row 1 of split 'train' of shards has label 1 in column 'label'"):
        list(dataset.examples([1]))


def test_several_processes_share_the_shards_of_an_evaluation(shards, monkeypatch):
    dataset = shards([5, 3, 4, 4, 1])
    whole = joined(list(evaluation_batches(dataset, batch_size=4)))
    reads = Reads(monkeypatch)
    parts, counts = [], []
    for rank in range(3):
        parts += list(evaluation_batches(dataset, batch_size=4, rank=rank, world_size=3, by_shards=True))
        counts.append(len(reads.taken()))
    assert sum(counts) == 17 and max(len(batch["index"]) for batch in parts) == 4
    order = joined(parts)["index"].argsort()
    assert same(whole, {name: column[order] for name, column in joined(parts).items()})


def test_a_lane_that_is_gone_on_with_is_in_its_epoch(shards):
    dataset = shards([6, 6], shuffle_buffer_size=4)
    lane = Lane(dataset, 0, 1, seed=0, width=5)
    epochs = [lane.take()[0] for _ in range(5)]
    assert epochs == [0, 0, 1, 1, 2]  # two of twelve are left out each time
    resumed = Lane(dataset, 0, 1, seed=0, width=5, state=lane.state())
    for _ in range(3):
        (epoch, found), (expected_epoch, expected) = resumed.take(), lane.take()
        assert epoch == expected_epoch and [each.index for each in found] == [each.index for each in expected]
