"""Shards that are archives of files, as webdataset writes them: in memory and streamed."""

from __future__ import annotations

import io
import itertools
import tarfile

import numpy as np
import pytest
from PIL import Image

from hf_genmodels.data import TrainingBatches, evaluation_batches, load_data, load_split
from tests.testing_utils.refusals import refused


@pytest.fixture
def tars(tmp_path):
    """Writes archives into a folder: name -> (first number, last number) of their examples, or their files."""

    def write(archives, root="tars"):
        for name, content in archives.items():
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with tarfile.open(path, "w") as archive:
                for inside, data in content if isinstance(content, list) else examples(*content):
                    info = tarfile.TarInfo(inside)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
        return tmp_path / root

    return write


def examples(first, last):
    for number in range(first, last):
        file = io.BytesIO()
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(file, "PNG")
        yield f"images/{number:03}.png", file.getvalue()
        yield f"images/{number:03}.cls", str(number % 3).encode()
        yield f"images/{number:03}.json", b'{"by": "hand"}'


def everything(dataset):
    """(grey value, label) of every example."""
    found = []
    for batch in evaluation_batches(dataset, batch_size=4):
        values = (batch["image"][:, 0, 0, 0] * 127.5 + 127.5).round().int().tolist()
        found += zip(values, batch["label"].tolist(), strict=True)
    return found


COLUMNS = {"image_column": "png", "label_column": "cls"}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("option", ["dataset_name", "train_data_dir"])
@pytest.mark.parametrize("root", ["tars", "odd [a] {b}* ?%20\n#"])
def test_a_folder_of_archives(tars, arguments, streaming, option, root):
    folder = tars({"a-0.tar": (0, 5), "a-1.tar": (5, 10), "x[1]*.tar": (10, 12)}, root)
    args = arguments(**{option: str(folder)}, streaming=streaming, **COLUMNS)
    train = load_data(args, 0).train
    assert sorted(everything(train)) == [(number, number % 3) for number in range(12)]
    assert train.spec.name == root
    if streaming:
        assert train.num_shards == 3
        batches = list(itertools.islice(TrainingBatches(train, batch_size=4, num_workers=2).start(0), 12))
        assert len({int(index) for batch in batches for index in batch["index"]}) == 12


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "names", [("train/0.tar", "train/1.tar", "Val/0.tar"), ("train-0.tar", "train_1.tar", "validation.tar")]
)
def test_splits_of_archives(tars, arguments, streaming, names):
    folder = tars({name: (4 * i, 4 * i + 4) for i, name in enumerate(names)})
    args = arguments(train_data_dir=str(folder), streaming=streaming, **COLUMNS)
    data = load_data(args, 0)
    assert data.validation_split == "validation"
    assert sorted(value for value, _ in everything(data.train)) == list(range(8))
    assert [value for value, _ in everything(load_split(args, "validation"))] == [8, 9, 10, 11]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("archives", "options", "says"),
    [
        ({"a.tar": (0, 3)}, {}, r"split 'train' of tars has no column 'image': choose --image_column from png"),
        ({"a.tar": (0, 3)}, {**COLUMNS, "label_column": "label2"}, "no column 'label2': choose --label_column from"),
        ({"a.tar": []}, COLUMNS, "no data set could be read from there: .*; archives hold files such as 0001.jpg"),
        (
            {"a.tar": [("README", b"no example")]},
            COLUMNS,
            "no data set could be read from there: .*; archives hold files such as",
        ),
        ({"a.tar": [("1.png", b""), ("2.cls", b"1")]}, COLUMNS, "no data set could be read from there: The TAR"),
        ({"a.tar": [("1.png", b"png"), ("1.cls", b"one")]}, COLUMNS, "no data set could be read from there: invalid"),
        ({"a.tar": [("1.png", b"png"), ("1.cls", b"1")]}, COLUMNS, r"\(1.png\) of column 'png' .* is no image"),
        ({"train.tar": (0, 2), "b.tar": (2, 4)}, COLUMNS, r"holds train\.tar and beside it b\.tar: of which split"),
    ],
)
def test_archives_of_other_content(tars, arguments, streaming, archives, options, says):
    folder = tars(archives)
    with refused(says):
        everything(load_data(arguments(train_data_dir=str(folder), streaming=streaming, **options), 0).train)


@pytest.mark.parametrize("streaming", [False, True])
def test_archives_that_are_none_or_cut_off(tars, arguments, streaming):
    folder = tars({"a.tar": (0, 120), "b.tar": (120, 200)})
    args = arguments(train_data_dir=str(folder), streaming=streaming, **COLUMNS)
    whole = (folder / "b.tar").read_bytes()
    (folder / "b.tar").write_bytes(whole[: len(whole) // 2 + 700])
    with refused("shard 1 of 2, .* cannot be read beyond" if streaming else "no data set could be read from there"):
        everything(load_data(args, 0).train)
    (folder / "b.tar").write_bytes(whole)
    (folder / "a.tar").write_text("no archive")
    with refused("no data set could be read from there"):
        load_data(args, 0)


def test_one_archive(tars, arguments):
    path = tars({"a.tar": (3, 6)}) / "a.tar"
    train = load_data(arguments(dataset_name=str(path), streaming=True, **COLUMNS), 0).train
    with refused(r"a\.tar is no folder: give it as --dataset_name"):
        load_data(arguments(train_data_dir=str(path), **COLUMNS), 0)
    assert train.spec.name == "a" and [value for value, _ in everything(train)] == [3, 4, 5]
