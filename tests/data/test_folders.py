"""Folders of `.npy` images, whose columns `metadata.jsonl` names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from hf_genmodels.data import Layout, evaluation_batches, load_data, load_split
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
    ],
)
def test_metadata_that_cannot_be_used(folder, arguments, metadata, words):
    root = folder({"1.npy": GREY})
    (root / "metadata.jsonl").write_bytes(metadata if isinstance(metadata, bytes) else metadata.encode())
    message = error_of(load_data, arguments(train_data_dir=str(root)), 0)
    assert str(root / "metadata.jsonl") in message and all(word in message for word in words)


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
