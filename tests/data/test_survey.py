"""Several processes of a machine look at a folder together, and all find what one alone finds."""

from __future__ import annotations

import threading
from hashlib import sha256
from zlib import crc32

import numpy as np
import pytest

from hf_genmodels import UserError
from hf_genmodels.data import DataArguments, load_data
from hf_genmodels.data.conversion import Kind
from hf_genmodels.data.decoding import Header
from hf_genmodels.data.glances import BLOCK
from hf_genmodels.data.sets import LazyDataset
from hf_genmodels.data.sharing import ALONE, Share
from hf_genmodels.data.survey import HEADER, Headers, expect
from tests.testing_utils.refusals import refused


class Meeting:
    """Threads in place of processes: everybody waits for everybody's value."""

    def __init__(self, count):
        self.values = [None] * count
        self.barrier = threading.Barrier(count, timeout=30)

    def share(self, rank, count):
        def gather(value):
            self.values[rank] = value
            self.barrier.wait()
            found = list(self.values)
            self.barrier.wait()
            return found

        return Share(rank, count, gather)


def in_each_of(count, work):
    """What `work(share)` gives, or the error it raises, in each of so many processes."""
    meeting, found = Meeting(count), [None] * count

    def run(rank):
        try:
            found[rank] = work(meeting.share(rank, count))
        except UserError as error:
            found[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.fixture
def pictures(folder, arguments, random):
    """Images of several sizes; those named are spoilt."""

    def write(*spoilt, **options):
        files = {f"{i:02}.png": random.integers(0, 256, (8, 8 + i % 3, 3), dtype=np.uint8) for i in range(11)}
        root = folder({**files, **dict.fromkeys(spoilt, "no image")})
        return arguments(train_data_dir=str(root), resolution=8, **options)

    return write


@pytest.mark.parametrize("count", [2, 3, 20])
def test_all_find_what_one_finds(pictures, count, caplog):
    args = pictures("03.png", "07.png", on_bad_image="skip")
    alone = load_data(args, 0).train
    assert isinstance(alone, LazyDataset) and len(alone) == 9
    for data in in_each_of(count, lambda share: load_data(args, 0, share=share)):
        assert data.spec == alone.spec and np.array_equal(data.train.rows, alone.rows)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 + 1 and len(set(said)) == 1 and "skipped 2 bad images" in said[0] and "03.png" in said[0]


def test_all_refuse_what_one_refuses(pictures):
    args = pictures("04.png", "09.png")
    with refused("04.png is no image") as caught:
        load_data(args, 0)
    errors = in_each_of(3, lambda share: load_data(args, 0, share=share))
    assert {str(error) for error in errors} == {str(caught.value)}


def test_each_looks_at_its_part():
    rows = np.arange(3, 14)
    parts = in_each_of(4, lambda share: share.together(lambda: share.of(rows).tolist()))
    assert all(part == parts[0] for part in parts) and len({len(part) for part in parts[0]}) == 2
    assert [row for part in parts[0] for row in part] == rows.tolist()
    assert ALONE.together(lambda: 5) == [5]


def test_digest_of_files(pictures, tmp_path):
    spec = load_data(pictures(), 0).spec
    described = ""
    for path in sorted((tmp_path / "images").iterdir()):
        content = path.read_bytes()
        middle = content[len(content) // 2 :][:BLOCK]
        described += f"{len(content)} {crc32(content[:BLOCK] + middle + content[-BLOCK:])}\n"
    assert spec.files == sha256(described.encode()).hexdigest()[:12]


def test_headers():
    """Kinds are numbered in each part; what most have, and of equally many the first, is expected."""
    rgb, grey = Kind("RGB", 3, 255.0, "uint8"), Kind("grey", 1, 255.0, "uint8")
    stored = [(rgb, 5, 9), (grey, 4, 4), (rgb, 2, 2), (grey, 4, 4), (rgb, 2, 2), (rgb, 5, 9)]
    parts = []
    for begin, kinds in ((0, [rgb, grey]), (3, [grey, rgb])):
        lines = [(10 * row, kinds.index(k), h, w) for row, (k, h, w) in list(enumerate(stored))[begin : begin + 3]]
        parts.append(Headers(np.array(lines, dtype=HEADER), kinds))
    headers = Headers.joined(parts)
    counts, which = headers.distinct()
    assert list(counts.items()) == [(Header(rgb, 5, 9), 2), (Header(grey, 4, 4), 2), (Header(rgb, 2, 2), 2)]
    assert [list(counts)[index] for index in which] == [Header(*each) for each in stored]
    assert headers.of(np.array([20, 50])).distinct()[0] == {Header(rgb, 2, 2): 1, Header(rgb, 5, 9): 1}
    assert [sizes.tolist() for sizes in headers.sizes(np.array([10, 50]))] == [[4, 5], [4, 9]]
    assert expect(counts, DataArguments()).kind == rgb and expect(counts, DataArguments()).size == (5, 9)
