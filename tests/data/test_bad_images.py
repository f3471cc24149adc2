"""Every mistake in the data is one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from hf_genmodels.data import TrainingBatches, evaluation_batches, load_data, load_split
from hf_genmodels.data.sets import LazyDataset
from tests.testing_utils.refusals import refused

GREY = np.full((6, 6), 100, dtype=np.uint8)
RGB = np.full((6, 6, 3), 100, dtype=np.uint8)


def sixteen_bit_rgb() -> bytes:
    """A PNG that Pillow can read but not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = (b"\0" + b"\x12\x34" * 18) * 6
    header = struct.pack(">IIBBBBB", 6, 6, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def error_of(function, *args, **kwargs) -> str:
    with refused() as caught:
        function(*args, **kwargs)
    return str(caught.value)


ODD_FILES = {
    "text.png": ("this is no image", "no image"),
    "grey.png": (GREY, "8-bit grey (L) where RGB is expected"),
    "deep.png": (GREY.astype(np.uint16), "16-bit grey (I;16) where RGB is expected"),
    "clear.png": (Image.new("RGBA", (6, 6)), "alpha channel (mode RGBA)"),
    "palette.png": (Image.new("P", (6, 6)), "palette (P) where RGB is expected"),
    "holes.png": (Image.new("LA", (6, 6)), "alpha channel (mode LA)"),
    "print.jpg": (Image.new("CMYK", (6, 6)), "mode CMYK"),
    "wide.png": (np.zeros((6, 7, 3), dtype=np.uint8), "6x7 (height x width) where 6x6 is expected: pass --resolution"),
}


@pytest.mark.parametrize("name", ODD_FILES)
@pytest.mark.parametrize("streaming", [False, True])
def test_the_odd_one_among_rgb_images_is_named_or_skipped(folder, arguments, caplog, name, streaming):
    content, words = ODD_FILES[name]
    # The odd one comes first: it must not decide what the rest should be.
    root = folder({f"a_{name}": content, **{f"b{i}.png": RGB for i in range(4)}})
    args = arguments(train_data_dir=str(root), streaming=streaming)

    def run() -> None:
        list(evaluation_batches(load_data(args, seed=0).train, batch_size=2))

    message = error_of(run)
    assert str(root / f"a_{name}") in message and words in message and "--on_bad_image skip" in message, message

    args = arguments(train_data_dir=str(root), streaming=streaming, on_bad_image="skip")
    with caplog.at_level(logging.WARNING, "hf_genmodels"):
        batches = list(evaluation_batches(load_data(args, seed=0).train, batch_size=8))
    assert batches[0]["image"].shape == (4, 3, 6, 6)
    assert any("skipped 1 bad image" in record.getMessage() for record in caplog.records)
    assert f"a_{name}" in caplog.text


def test_sixteen_bit_rgb_is_not_cut_to_eight_bits(folder, arguments):
    root = folder({"1.png": RGB})
    (root / "2.png").write_bytes(sixteen_bit_rgb())
    assert Image.open(root / "2.png").mode == "RGB"
    message = error_of(load_data, arguments(train_data_dir=str(root)), seed=0)
    assert "2.png" in message and "16-bit RGB" in message and ".npy" in message


def test_transparent_palette(folder, arguments):
    root = folder({})
    Image.new("P", (6, 6)).save(root / "1.png", transparency=0)
    message = error_of(load_data, arguments(train_data_dir=str(root)), seed=0)
    assert "1.png" in message and "alpha channel" in message


def test_truncated_files_are_found_when_they_are_decoded(folder, arguments, random):
    root = folder({f"{i}.png": random.integers(0, 256, (32, 32), dtype=np.uint8) for i in range(3)})
    (root / "1.png").write_bytes((root / "1.png").read_bytes()[:500])
    message = error_of(load_data, arguments(train_data_dir=str(root)), seed=0)
    assert "1.png" in message and "cannot be read" in message
    data = load_data(arguments(train_data_dir=str(root), on_bad_image="skip"), seed=0)
    assert data.spec.num_examples == len(data.train) == 2
    batch = next(evaluation_batches(data.train, batch_size=5))
    kept = torch.from_numpy(np.asarray(Image.open(root / "2.png")) / 127.5 - 1)
    assert torch.allclose(batch["image"][1, 0].double(), kept, atol=1e-6)


def lazy_files(folder, random, ending, **options) -> Path:
    """Images of several sizes, which are decoded when they are asked for."""
    root = folder({})
    for i in range(4):
        pixels = random.integers(0, 256, (32, 32 + i), dtype=np.uint8)
        if ending == "npy":
            np.save(root / f"{i}.npy", pixels / np.float32(255) if options else pixels)
        else:
            Image.fromarray(pixels).save(root / f"{i}.{ending}", **options)
    return root


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damage_that_only_decoding_finds(folder, arguments, random, num_workers):
    root = lazy_files(folder, random, "png")
    content = bytearray((root / "1.png").read_bytes())
    content[400:500] = bytes(100)
    (root / "1.png").write_bytes(content)
    data = load_data(arguments(train_data_dir=str(root), resolution=32), seed=0)
    batches = TrainingBatches(data.train, batch_size=4, num_workers=num_workers).start(0)
    assert "1.png" in error_of(next, batches)
    data = load_data(arguments(train_data_dir=str(root), resolution=32, on_bad_image="skip"), seed=0)
    assert isinstance(data.train, LazyDataset) and len(data.train) == data.spec.num_examples == 3
    assert len(next(evaluation_batches(data.train, batch_size=8))["index"]) == 3


def preview() -> Image.Exif:
    """What cameras add to a JPEG: another one, which ends as a JPEG does."""
    small = io.BytesIO()
    Image.new("L", (8, 8)).save(small, "JPEG")
    exif = Image.Exif()
    exif[0x010E] = small.getvalue().decode("latin1")
    return exif


KINDS = [
    *[(ending, {}) for ending in ("png", "jpg", "gif", "bmp", "pgm", "tga", "tif", "npy", "jp2")],
    *[("tif", {"compression": "tiff_lzw"}), ("jpg", {"progressive": True}), ("jpg", {"exif": preview()})],
    ("webp", {"lossless": True}),
]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(("ending", "options"), KINDS, ids=lambda value: "-".join(value))
@pytest.mark.parametrize("share", [0.4, 0.7, 0.95, 0.999, 1])
def test_truncated_files_of_a_lazy_set_are_found_before_training(folder, arguments, random, ending, options, share):
    root = lazy_files(folder, random, ending, **options)
    content = (root / f"1.{ending}").read_bytes()
    (root / f"1.{ending}").write_bytes(content[: int(len(content) * share)])
    # Every image is decoded where bad ones are to be left out; what is cut off at the very end may show everything.
    kept = len(load_data(arguments(train_data_dir=str(root), resolution=32, on_bad_image="skip"), seed=0).train)
    assert kept == 4 if share == 1 else kept == 3 or share > 0.9
    args = arguments(train_data_dir=str(root), resolution=32)
    if kept == 4:
        assert len(load_data(args, seed=0).train) == 4
    else:
        assert f"1.{ending}" in error_of(load_data, args, seed=0)


@pytest.mark.parametrize("trailing", [b"\0" * 9, b"camera's own" * 999], ids=["short", "long"])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_what_follows_an_image_does_not_matter(folder, arguments, random, ending, trailing):
    root = lazy_files(folder, random, ending)
    with (root / f"1.{ending}").open("ab") as file:
        file.write(trailing)
    assert len(load_data(arguments(train_data_dir=str(root), resolution=32), seed=0).train) == 4


def test_values_of_a_lazy_set_are_looked_at_before_training(folder, arguments, random):
    root = lazy_files(folder, random, "npy", floats=True)
    args = arguments(train_data_dir=str(root), resolution=32)
    assert len(load_data(args, seed=0).train) == 4
    np.save(root / "1.npy", np.full((32, 33), np.nan, dtype=np.float32))
    assert "1.npy holds NaN" in error_of(load_data, args, seed=0)


def headed(header: str, version: bytes = b"\1\0") -> bytes:
    """A `.npy` file with a header of one's own."""
    text = header.encode("latin1").ljust(117) + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + bytes(200)


DAMAGED_ARRAYS = [
    b"", b"\x93NUMPY", b"PK\5\6" + bytes(18), b"\x80\4pickle", headed("{", b"\t\t"), headed("{"), headed("(" * 99),
    headed("1"), headed("[" * 90 + "]" * 27),
    *[
        headed("{'descr': %s, 'fortran_order': False, 'shape': %s, }" % (kind, shape))  # noqa: UP031
        for kind, shape in (
            ("'<f4'", "(9" + "9" * 30 + ",)"), ("'<f4'", "(-1, 6)"), ("'<f4'", "(True, 6)"), ("'<f4'", "('a', 6)"),
            ("'<f4'", "(1000000, 1000000)"), ("'zzz'", "(6, 6)"), ("['a']", "(6, 6)"), ("{'a': 1}", "(6, 6)"),
            ("'|O'", "(6, 6)"), ("'<U4'", "(3, 3)"), ("'<M8[s]'", "(2, 2)"), ("'<f4'", "(0, 6)"), ("'<f4'", "()"),
        )
    ],
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(DAMAGED_ARRAYS)))
def test_damaged_headers_of_arrays(folder, arguments, number):
    root = folder({"1.npy": GREY, "2.npy": GREY})
    (root / "3.npy").write_bytes(DAMAGED_ARRAYS[number])
    assert "3.npy" in error_of(load_data, arguments(train_data_dir=str(root)), seed=0)
    assert len(load_data(arguments(train_data_dir=str(root), on_bad_image="skip"), seed=0).train) == 2


@pytest.mark.parametrize("path", ["http://127.0.0.1:9/1.png", "ftp://x/1.png", "file:///etc/1.png"])
@pytest.mark.parametrize("streaming", [False, True])
def test_rows_that_name_addresses_are_bad(tmp_path, arguments, path, streaming):
    stored = io.BytesIO()
    Image.fromarray(GREY).save(stored, "PNG")
    cells = [{"bytes": stored.getvalue(), "path": "1.png"}, {"bytes": None, "path": path}]
    table = pa.table({"image": pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))})
    pq.write_table(table, tmp_path / "rows.parquet")

    def count(**options) -> int:
        args = arguments(dataset_name=str(tmp_path / "rows.parquet"), streaming=streaming, **options)
        return sum(len(batch["index"]) for batch in evaluation_batches(load_data(args, seed=0).train, batch_size=2))

    message = error_of(count)
    assert path in message and "nothing is fetched from there" in message
    assert count(on_bad_image="skip") == 1


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.full((6, 6), np.nan, dtype=np.float32), "NaN"),
        (np.full((6, 6), 3, dtype=np.float32), "from 3 to 3: scale float images to [0, 1]"),
        (np.full((6, 6), -0.5, dtype=np.float64), "from -0.5 to -0.5"),
        (np.zeros((6, 6), dtype=np.int64), "int64"),
        (np.zeros((6, 6), dtype=np.uint8), "a uint8 array with 1 channel(s) where a float array"),
        (np.zeros((6, 6, 2), dtype=np.float32), "2 channel(s) where a float array with 1"),
        (np.zeros(6, dtype=np.float32), "shape (6,)"),
        (np.zeros((6, 5), dtype=np.float32), "6x5"),
        (np.array([{"a": 1}], dtype=object), "cannot be read"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_bad_arrays(folder, arguments, bad, words, streaming):
    good = {f"{i}.npy": np.full((6, 6), 0.5, dtype=np.float32) for i in range(3)}
    root = folder({**good, "bad.npy": bad})
    args = arguments(train_data_dir=str(root), streaming=streaming)

    def run() -> None:
        list(evaluation_batches(load_data(args, seed=0).train, batch_size=2))

    message = error_of(run)
    assert str(root / "bad.npy") in message and words in message, message
    args = arguments(train_data_dir=str(root), streaming=streaming, on_bad_image="skip")
    assert next(evaluation_batches(load_data(args, seed=0).train, batch_size=9))["image"].shape == (3, 1, 6, 6)


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_of_a_table_are_named_by_row_and_column(parquet, arguments, streaming):
    arrays = np.full((4, 3, 3), 0.5)
    arrays[2, 1, 1] = np.nan
    points = [[1.0, 2.0], [1.0], [1.0, 2.0], [3.0, None]]
    images = [Image.new("L", (4, 4)), Image.new("L", (4, 4)), Image.new("RGB", (4, 4)), None]
    root = parquet(
        {"train": {"array": arrays.tolist(), "point": points, "image": images}},
        {
            "array": datasets.Array2D((3, 3), "float64"),
            "point": datasets.List(datasets.Value("float64")),
            "image": datasets.Image(),
        },
    )

    def run(column: str) -> None:
        args = arguments(dataset_name=str(root), image_column=column, streaming=streaming)
        list(evaluation_batches(load_data(args, seed=0).train, batch_size=1))

    message = error_of(run, "array")
    assert "row 2 of column 'array' of split 'train'" in message and "NaN" in message
    message = error_of(run, "point")
    assert "row 1 of column 'point'" in message and "vector of 1 values where a vector of 2 values" in message
    message = error_of(run, "image")
    assert "row 3 of column 'image'" in message and "is empty" in message
    message = error_of(run, "picture")
    assert "no column 'picture'" in message and "array, point, image" in message

    args = arguments(dataset_name=str(root), image_column="point", streaming=streaming, on_bad_image="skip")
    batch = next(evaluation_batches(load_data(args, seed=0).train, batch_size=4))
    assert batch["image"].tolist() == [[1, 2], [1, 2]]


def test_columns_without_images_or_classes(parquet, arguments):
    columns = {
        "image": [Image.new("L", (4, 4))] * 2,
        "text": ["a", "b"],
        "score": [0.5, 1.0],
        "kind": ["x", None],
        "void": [None, None],
    }
    text = datasets.Value("string")
    features = {
        "image": datasets.Image(),
        "text": text,
        "score": datasets.Value("float32"),
        "kind": text,
        "void": text,
    }
    root = parquet({"train": columns}, features)
    message = error_of(load_data, arguments(dataset_name=str(root), image_column="text"), seed=0)
    assert "column 'text'" in message and "not images" in message
    message = error_of(load_data, arguments(dataset_name=str(root), label_column="klass"), seed=0)
    assert "no column 'klass'" in message and "text" in message
    message = error_of(load_data, arguments(dataset_name=str(root), label_column="score"), seed=0)
    assert "'score'" in message and "not classes" in message
    message = error_of(load_data, arguments(dataset_name=str(root), label_column="kind"), seed=0)
    assert "row 1" in message and "no label in column 'kind'" in message
    message = error_of(load_data, arguments(dataset_name=str(root), label_column="void"), seed=0)
    assert "'void'" in message and "--label_column" in message
    message = error_of(load_data, arguments(dataset_name=str(root), label_column="kind", streaming=True), seed=0)
    assert "'kind'" in message and "--streaming" in message
    message = error_of(load_data, arguments(dataset_name=str(root), validation_split="dev"), seed=0)
    assert "no split 'dev'" in message and "train" in message
    message = error_of(load_split, arguments(dataset_name=str(root)), "test")
    assert "no split 'test'" in message
    message = error_of(load_data, arguments(dataset_name=str(root), exclude_label="x"), seed=0)
    assert "--exclude_label x" in message and "'label'" in message


def test_image_that_is_not_turned_like_the_others(folder, arguments):
    root = folder(
        {f"{i}.png": np.zeros((4, 6), dtype=np.uint8) for i in range(2)} | {"tall.png": np.zeros((6, 4), np.uint8)}
    )
    message = error_of(load_data, arguments(train_data_dir=str(root)), seed=0)
    assert "tall.png is 6x4 (height x width) where 4x6 is expected" in message and "--resolution" in message
    data = load_data(arguments(train_data_dir=str(root), on_bad_image="skip"), seed=0)
    assert data.spec.shape == (1, 4, 6) and data.spec.num_examples == 2


def test_validation_images_must_be_like_the_training_images(folder, arguments):
    root = folder({"train/1.png": RGB, "train/2.png": RGB, "test/3.png": GREY})
    message = error_of(load_data, arguments(dataset_name=str(root)), seed=0)
    assert "3.png" in message and "RGB is expected" in message


def test_nothing_usable(folder, arguments, tmp_path):
    root = folder({"1.png": "text", "2.png": "text"})
    message = error_of(load_data, arguments(train_data_dir=str(root), on_bad_image="skip"), seed=0)
    assert "no usable image" in message and "1.png" in message
    args = arguments(train_data_dir=str(root), on_bad_image="skip", streaming=True)
    assert "no usable image" in error_of(load_data, args, seed=0)


def test_folders_that_hold_nothing_or_do_not_exist(folder, arguments, tmp_path):
    (tmp_path / "empty").mkdir()
    message = error_of(load_data, arguments(train_data_dir=str(tmp_path / "empty")), seed=0)
    assert "--train_data_dir" in message and "empty folder" in message
    message = error_of(load_data, arguments(dataset_name=str(tmp_path / "empty")), seed=0)
    assert "--dataset_name" in message and "empty folder" in message
    for name in ("./missing", "../missing/", "data/of/mine", str(tmp_path / "missing")):
        message = error_of(load_data, arguments(dataset_name=name), seed=0)
        assert name in message and "no such folder" in message
    message = error_of(load_data, arguments(dataset_name="my/pictures"), seed=0)
    assert "my/pictures" in message and "no such local folder" in message
    message = error_of(load_data, arguments(dataset_name=str(folder({"notes.txt": "a"}) / "notes.txt")), seed=0)
    assert "notes.txt" in message and "parquet" in message
    (tmp_path / "hollow" / "cat").mkdir(parents=True)
    for option in ("train_data_dir", "dataset_name"):
        assert "hollow" in error_of(load_data, arguments(**{option: str(tmp_path / "hollow")}), seed=0)


def test_a_broken_parquet_file(tmp_path, arguments):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "train.parquet").write_bytes(b"PAR1 nothing PAR1")
    message = error_of(load_data, arguments(dataset_name=str(tmp_path / "broken")), seed=0)
    assert "broken" in message and "no data set could be read" in message
