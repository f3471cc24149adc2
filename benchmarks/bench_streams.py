"""A stream of 1,000 shards: seconds until the first batch of a resumed run, records that one of many processes reads.

    python benchmarks/bench_streams.py

Writes 1,000 parquet files of 64 grey pictures (32x32, PNG) into a temporary folder, about 60 MB.
"""

from __future__ import annotations

import io
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from hf_genmodels.data import DataArguments, TrainingBatches, load_data
from hf_genmodels.data.lanes import Lane
from hf_genmodels.data.streams import StreamedDataset

SHARDS, ROWS, BATCH = 1000, 64, 64
FEATURES = datasets.Features({"image": datasets.Image()})


def write_shards(folder: Path) -> None:
    """The data set."""
    draw = np.random.default_rng(0)
    for shard in range(SHARDS):
        cells = [{"bytes": png(draw), "path": None} for _ in range(ROWS)]
        table = pa.Table.from_pydict({"image": cells}, schema=FEATURES.arrow_schema)
        pq.write_table(table, folder / f"train-{shard:05}-of-{SHARDS:05}.parquet", row_group_size=16)


def png(draw: np.random.Generator) -> bytes:
    """A picture."""
    file = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (32, 32), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def opened(folder: Path) -> StreamedDataset:
    """The stream, as a run opens it."""
    args = DataArguments(dataset_name=str(folder), streaming=True, cache_dir=str(folder.parent / "cache"))
    train = load_data(args, seed=0).train
    assert isinstance(train, StreamedDataset)
    return train


def resumed(folder: Path) -> None:
    """Seconds from opening the data to the first batch, at nine tenths of an epoch."""
    dataset = opened(folder)
    position = SHARDS * ROWS * 9 // 10 // BATCH
    batches = TrainingBatches(dataset, batch_size=BATCH)
    assert batches.stream is not None
    rows = batches.stream.rows
    began = time.perf_counter()
    lanes = {n: Lane(dataset, n, rows.num_lanes, 0, rows.width) for n in rows.lanes}
    for _ in range(position):
        for lane in lanes.values():
            lane.take()
    walked = time.perf_counter() - began
    state: dict[str, Any] = {"update": position, "lanes": {n: lane.state() for n, lane in lanes.items()}}
    times = []
    for _ in range(5):
        began = time.perf_counter()
        fresh = opened(folder)
        loaded = time.perf_counter() - began
        next(TrainingBatches(fresh, batch_size=BATCH).start(position, state))
        times.append((time.perf_counter() - began - loaded, loaded))
    first, loaded = (sorted(each)[2] for each in zip(*times, strict=True))
    print(f"batch {position} of {rows.num_lanes} lanes: {walked:.1f} s to read up to it from the start, undecoded")
    print(f"from the state: {first:.2f} s to the batch (and {loaded:.2f} s to open the data set), median of 5")


def records(folder: Path) -> None:
    """Records that the last of so many processes reads."""
    dataset, example, count = opened(folder), StreamedDataset.example, itertools.count()

    def counted(self: StreamedDataset, *row: Any) -> Any:
        next(count)
        return example(self, *row)

    StreamedDataset.example = counted  # type: ignore[method-assign]
    try:
        for world in (1, 8, 64):
            batches = TrainingBatches(dataset, batch_size=4, rank=world - 1, world_size=world)
            made, before = batches.start(0), next(count)
            next(made)
            first = next(count) - before - 1
            for _ in range(39):
                next(made)
            state, before = batches.state(40), next(count)
            next(batches.start(40, state))
            print(
                f"{world} process(es), batch of 4: {first} records for the first one, {next(count) - before - 1} for ",
                end="",
            )
            print(f"that at position 40 on resume ({batches.stream.rows.num_lanes} lanes)")  # type: ignore[union-attr]
    finally:
        StreamedDataset.example = example  # type: ignore[method-assign]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "shards"
        folder.mkdir()
        write_shards(folder)
        resumed(folder)
        records(folder)


if __name__ == "__main__":
    main()
