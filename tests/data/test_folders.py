"""Folders of images whose columns `metadata.jsonl`, `metadata.csv` or `metadata.parquet` name."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyarrow import csv

from hf_genmodels.data import Layout, evaluation_batches, load_data, load_split
from hf_genmodels.data.metadata import described
from tests.testing_utils.refusals import refused

GREY = np.full((4, 4), 0.5, dtype=np.float32)


def error_of(function, *args, **kwargs) -> str:
    with refused() as caught:
        function(*args, **kwargs)
    return str(caught.value)


def lines(*values):
    return "\n".join(json.dumps(value) for value in values)


def test_pairs_of_rgb_files_and_arrays_of_four_angles(folder, arguments, random):
    rgb = random.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    angles = random.integers(0, 65536, (5, 4, 4, 4), dtype=np.uint16)
    files = {"train": range(3), "test": range(3, 5)}
    content = {}
    for split, numbers in files.items():
        content |= {f"{split}/rgb/{i}.png": rgb[i] for i in numbers}
        content |= {f"{split}/angles/{9 - i}.npy": angles[i] for i in numbers}
        content |= {f"{split}/left/over.npy": GREY}
        rows = [
            {"target_image_file_name": f"angles/{9 - i}.npy", "conditioning_image_file_name": f"rgb/{i}.png"}
            for i in numbers
        ]
        content[f"{split}/metadata.jsonl"] = lines(*rows) + "\n\n"
    data = load_data(arguments(train_data_dir=str(folder(content))), 0, Layout("pair"))
    assert data.spec.shape == (3, 4, 4) and data.spec.other.shape == (4, 4, 4) and data.spec.class_names is None
    assert data.spec.other.value_scale == 65535 and data.validation_split == "test"
    for dataset, numbers in ((data.train, files["train"]), (data.validation, files["test"])):
        batch = next(evaluation_batches(dataset, batch_size=5))
        for name, stored, scale in (("conditioning_image", rgb, 255), ("target_image", angles, 65535)):
            expected = torch.from_numpy(stored[list(numbers)].transpose(0, 3, 1, 2) / scale * 2 - 1)
            torch.testing.assert_close(batch[name].double(), expected, rtol=0, atol=3e-7)


@pytest.mark.parametrize("streaming", [False, True])
def test_single_images_with_labels(folder, arguments, streaming):
    rows = [{"file_name": f"{name}/{i}.npy", "label": i % 2, "note": None} for i, name in enumerate("xyy")]
    content = {f"{name}/{i}.npy": GREY * i / 2 for i, name in enumerate("xyyz")}
    root = folder(content | {"metadata.jsonl": lines(*rows)})
    data = load_data(arguments(dataset_name=str(root), streaming=streaming), 0)
    batch = next(evaluation_batches(data.train, batch_size=4))
    assert batch["label"].tolist() == [0, 1, 0] and batch["image"][:, 0, 0, 0].tolist() == [-1, -0.5, 0]


def test_labels_may_be_words_and_may_be_missing_in_one_split(folder, arguments):
    rows = {
        "train": [{"file_name": "1.npy", "kind": "wet"}, {"file_name": "2.npy", "kind": "dry"}],
        "test": [{"file_name": "1.npy", "kind": None}],
    }
    root = folder(
        {f"{split}/{i}.npy": GREY for split in rows for i in (1, 2)}
        | {f"{split}/metadata.jsonl": lines(*values) for split, values in rows.items()}
    )
    args = arguments(train_data_dir=str(root), label_column="kind")
    data = load_data(args, 0)
    assert data.spec.class_names == ("dry", "wet") and data.train.labels.tolist() == [1, 0]
    assert len(data.validation) == 1 and load_split(args, "test").labels is None


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (lines({"file_name": "1.npy"}) + "\n\n{broken", ["line 3 of", "metadata.jsonl is no JSON: "]),
        (b"\xff\xfe\xff", ["line 1 of", "is no JSON: "]),
        ('["1.npy"]', ["line 1 of", "no JSON object"]),
        (lines({"file_name": "1.npy"}, {"file_name": "none.npy"}), ["line 2 of", "none.npy", "no such file"]),
        (lines({"file_name": "1.npy"}, {"label": 1}), ["line 2 of", "has no 'file_name'"]),
        (lines({"x_file_name": 3}), ["line 1 of", "has no 'x_file_name'"]),
        (lines({"label": 3}), ["names no images"]),
        ("\n", ["is empty"]),
        (lines({"file_name": "1.npy", "label": [1, 2]}), ["'label' in", "a word or a number"]),
        (lines({"file_name": "1.npy", "a": 1}, {"file_name": "1.npy", "a": "1"}), ["'a' in", "the same kind"]),
        (lines({"file_name": "1.npy", "image": 1}), ["two keys for the column 'image'"]),
        (lines({"file_name": "../images/1.npy"}), ["line 1 of", "names '../images/1.npy'", "a path inside"]),
        (lines({"file_name": "x/../../1.npy"}), ["a path inside"]),
        (lines({"file_name": "/etc/hostname"}), ["names '/etc/hostname'", "a path inside"]),
        (lines({"file_name": "http://127.0.0.1/1.npy"}), ["no such file"]),
        (lines({"file_name": "n" * 300 + ".png"}), ["no such file"]),
        (lines({"file_name": "1\0.npy"}), ["no such file"]),
        ('{"file_name": "1.npy", "a": ' + "[" * 100_000, ["line 1 of", "is no JSON: nested too deeply"]),
        ('{"file_name": "1.npy", "a": ' + "[" * 900 + "]" * 900 + "}", ["'a' in", "the same kind"]),
        (lines({"file_name": "1.npy", "a": 2**70}), ["'a' in", "the same kind"]),
    ],
)
def test_metadata_that_cannot_be_used(folder, arguments, metadata, words):
    root = folder({"1.npy": GREY})
    (root / "metadata.jsonl").write_bytes(metadata if isinstance(metadata, bytes) else metadata.encode())
    message = error_of(load_data, arguments(train_data_dir=str(root)), 0)
    assert str(root / "metadata.jsonl") in message and all(word in message for word in words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("metadata.csv", b"", "is empty"),
        ("metadata.csv", b"file_name,kind\n", "is empty"),
        ("metadata.csv", b"kind\na\n", "names no images"),
        ("metadata.csv", b"file_name\n1.npy\n../2.npy\n", "row 2 of"),
        ("metadata.csv", b"file_name,kind\n1.npy,a\n,b\n", "row 2 of"),
        ("metadata.csv", b"\xff\xfe\x00,", "is no table of comma-separated values"),
        ("metadata.csv", b'file_name\n"1.npy\n', "is no table of comma-separated values"),
        ("metadata.parquet", b"PAR1", "is no parquet file"),
    ],
)
def test_tables_that_cannot_be_used(folder, arguments, name, content, words):
    root = folder({"1.npy": GREY})
    (root / name).write_bytes(content)
    message = error_of(load_data, arguments(train_data_dir=str(root)), 0)
    assert str(root / name) in message and words in message


def write_table(path, rows):
    table = pa.Table.from_pylist(rows)
    if path.suffix == ".csv":
        csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        path.write_text(lines(*rows))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv", "metadata.parquet"])
@pytest.mark.parametrize("ending", ["png", "npy"])
def test_every_kind_of_metadata(folder, arguments, ending, name, streaming):
    grey = np.full((4, 4), 0, dtype=np.uint8)
    root = folder({f"{split}/{i}.{ending}": grey + 50 * i for split in ("train", "val") for i in range(4)})
    for split, numbers in (("train", (2, 0, 3)), ("val", (1, 2))):
        rows = [{"file_name": f"{i}.{ending}", "label": i, "size": 0.5 * i, "what": "xyzw"[i]} for i in numbers]
        write_table(root / split / name, rows)
    data = load_data(arguments(train_data_dir=str(root), streaming=streaming), 0)
    for dataset, numbers in ((data.train, [2, 0, 3]), (data.validation, [1, 2])):
        batch = next(evaluation_batches(dataset, batch_size=4))
        labels = batch["label"].tolist() if streaming else [int(data.spec.class_names[i]) for i in batch["label"]]
        assert labels == numbers
        grey_values = ((batch["image"][:, 0, 0, 0] + 1) * 127.5).round()
        assert grey_values.tolist() == [50 * i for i in numbers]


def test_every_folder_may_have_metadata_of_its_own(folder, arguments, caplog):
    root = folder({f"{name}/{i}.png": np.zeros((4, 4), np.uint8) for name in "ab" for i in range(3)})
    for name, rows in (("a", [(1, "x")]), ("b", [(2, "y"), (0, "x")])):
        write_table(root / name / "metadata.csv", [{"file_name": f"{i}.png", "label": label} for i, label in rows])
    data = load_data(arguments(train_data_dir=str(root)), 0)
    assert data.spec.class_names == ("x", "y") and data.train.labels.tolist() == [0, 1, 0]
    assert f"{root}: 3 images are named by no metadata; the first: a/0.png" in caplog.text


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("007 010 007", ["007", "010", "007"]),
        ("NA cat None", ["NA", "cat", "None"]),
        ("NA 1 2", ["NA", "1", "2"]),
        ("True False True", ["True", "False", "True"]),
        ("123456789012345678901 1 2", ["123456789012345678901", "1", "2"]),
        ("0 1 -12", [0, 1, -12]),
        ("0.5 1 2e-3", [0.5, 1.0, 0.002]),
        ('3 "" 4', [3, None, 4]),
        ('a "" b', ["a", None, "b"]),
    ],
)
def test_cells_of_comma_separated_values_are_what_is_written(folder, cells, expected):
    rows = [f"{i}.npy,{cell}" for i, cell in enumerate(cells.split())]
    files = {f"{i}.npy": GREY for i in range(len(rows))}
    root = folder(files | {"metadata.csv": "\n".join(["file_name,label", *rows])})
    assert described(root / "metadata.csv", "label")["label"] == expected


def test_classes_of_comma_separated_values_keep_their_names(folder, arguments):
    root = folder(
        {f"{i}.npy": GREY for i in range(3)} | {"metadata.csv": "file_name,label\n0.npy,007\n1.npy,NA\n2.npy,7"}
    )
    assert load_data(arguments(train_data_dir=str(root)), 0).spec.class_names == ("007", "7", "NA")


def test_metadata_may_say_more_than_words_and_numbers(folder, arguments):
    rows = [{"file_name": "1.npy", "boxes": [[1, 2], [3]], "about": {"x": None, "y": {"z": 1}}, "label": "a"}]
    root = folder({"1.npy": GREY, "metadata.jsonl": lines(*rows)})
    assert load_data(arguments(train_data_dir=str(root)), 0).spec.class_names == ("a",)


def test_all_splits_are_described_alike(folder, arguments):
    row = lines({"file_name": "1.npy", "label": 1})
    root = folder({"train/1.npy": GREY, "test/1.npy": GREY, "train/metadata.jsonl": row})
    args = arguments(train_data_dir=str(root))
    assert error_of(load_data, args, 0).startswith(f"{root / 'test'} has no metadata.jsonl, unlike {root / 'train'}")
    for other in ({"file_name": "1.npy"}, {"file_name": "1.npy", "label": "one"}):
        folder({"test/metadata.jsonl": lines(other)})
        message = error_of(load_data, args, 0)
        assert "differ in the column 'label'" in message and str(root / "test" / "metadata.jsonl") in message
    folder({"test/metadata.jsonl": row, "metadata.jsonl": row})
    message = error_of(load_data, args, 0)
    assert f"{root / 'metadata.jsonl'} lies beside the split folders train, test" in message
