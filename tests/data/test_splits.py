"""Which images of a folder are found, what their split and their class is, and what is said of the others."""

from __future__ import annotations

import logging
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from hf_genmodels.data import DataArguments, Layout, evaluation_batches, load_data
from hf_genmodels.data.features import find_labels
from hf_genmodels.data.sources import open_source
from tests.testing_utils.refusals import refused

GREY = np.full((4, 4), 100, dtype=np.uint8)


def sizes(args: DataArguments) -> dict[str, int]:
    return {name: len(split) for name, split in open_source(args).splits.items()}


def classes(args: DataArguments) -> list[str] | None:
    column = find_labels(open_source(args), args)
    return None if column is None else list(column.class_names)


@pytest.mark.parametrize("endings", [("png", "png"), ("npy", "npy"), ("npy", "tif")], ids=str)
@pytest.mark.parametrize("option", ["train_data_dir", "dataset_name"])
@pytest.mark.parametrize(
    ("names", "splits", "labels"),
    [
        ("bus/1 bus/2 car/1 train/1", {"train": 4}, ["bus", "car", "train"]),
        ("a/1 test/1", {"train": 2}, ["a", "test"]),
        ("dev/1 valid/1 valid/2", {"train": 3}, ["dev", "valid"]),
        ("img-test-4 toy_train_1 x", {"train": 3}, None),
        ("my.test.set/1 b/2", {"train": 2}, ["b", "my.test.set"]),
        ("Train/1 Train/2 TEST/1", {"train": 2, "test": 1}, None),
        ("train/1 train/2 val/1", {"train": 2, "validation": 1}, None),
        ("train/1 Validation/1 test/1", {"train": 1, "validation": 1, "test": 1}, None),
        ("train/a/1 train/b/1 val/b/1", {"train": 2, "validation": 1}, ["a", "b"]),
        ("train/a/1 train/test/1 test/a/1", {"train": 2, "test": 1}, ["a", "test"]),
        ("x/train/1 y/train/2 y/test/3", {"train": 3}, ["test", "train"]),
        ("a/1 b/c/1 2", {"train": 3}, None),
    ],
)
def test_folders_at_the_top_are_splits_where_all_images_lie_in_them(
    folder, arguments, endings, option, names, splits, labels
):
    files = {f"{name}.{endings[i % 2]}": GREY for i, name in enumerate(names.split())}
    root = folder(files | {"notes.txt": "", "train.csv": ""})
    args = arguments(**{option: str(root)})
    assert sizes(args) == splits
    assert list(open_source(args).splits) == list(splits)
    assert classes(args) == labels


@pytest.mark.parametrize("ending", ["png", "npy"])
@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("train/1 val/1 3", "holds train, val and beside them images of no folder: put all"),
        ("train/1 test/1 extra/1", "holds test, train and beside them extra: put all"),
        ("train/1 valid/1", "holds train and beside them valid: put all"),
        ("train/a/1 train/b/1 c/1", "holds train and beside them c: put all"),
        ("train/cat/1 train/dog/1 extra/cat/1 extra/bird/1", "holds train and beside them extra: put all"),
        ("train/1 2", "holds train and beside them images of no folder"),
        ("train/1 Train/2", "are both the split 'train'"),
        ("val/1 validation/2", "are both the split 'validation'"),
        ("toys/train/1 toys/test/2", "the splits test, train lie in {root}/toys, not in {root}: give {root}/toys"),
        ("trainA/1 trainB/1 testA/1 testB/1", "holds two domains, testA, testB, trainA, trainB"),
    ],
)
def test_what_is_a_split_is_never_guessed(folder, arguments, ending, names, words):
    root = folder({f"{name}.{ending}": GREY for name in names.split()})
    with refused() as error:
        load_data(arguments(train_data_dir=str(root)), 0)
    assert words.format(root=root) in str(error.value) and str(root) in str(error.value)


def test_a_class_called_train_is_told_of(folder, arguments, caplog):
    root = folder({f"{name}/1.png": GREY for name in ("bus", "car", "train")})
    with caplog.at_level(logging.WARNING, "hf_genmodels"):
        load_data(arguments(train_data_dir=str(root)), 0)
    assert "train is read as a class like bus, car" in caplog.text


@pytest.mark.parametrize("name", ["brack[1]ets", "co::lon", "a*b", "a b", "ümläut", "hash#1", "per%20cent"])
def test_names_that_mean_something_elsewhere(tmp_path, arguments, name):
    folder = tmp_path / name / name
    folder.mkdir(parents=True)
    Image.fromarray(GREY).save(folder / f"{name}.png")
    for streaming in (False, True):
        args = arguments(train_data_dir=str(tmp_path / name), streaming=streaming)
        (batch,) = evaluation_batches(load_data(args, 0).train, batch_size=3)
        assert batch["image"].shape == (1, 1, 4, 4)


@pytest.mark.parametrize("name", ["1.NPY", "1.PNG", "1.Jpeg", "1.jfif", "1.pbm", "1.jp2", "1.TIF"])
def test_endings_of_images(folder, arguments, name):
    root = folder({name.lower(): GREY})
    (root / name.lower()).rename(root / name)
    assert len(load_data(arguments(train_data_dir=str(root)), 0).train) == 1


def test_links_are_followed(folder, arguments, tmp_path):
    root = folder({"cat/1.png": GREY, "elsewhere/dog/2.png": GREY, "elsewhere/3.png": GREY})
    (root / "elsewhere").rename(tmp_path / "elsewhere")
    (root / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    (root / "cat" / "3.png").symlink_to(tmp_path / "elsewhere" / "3.png")
    args = arguments(train_data_dir=str(root))
    assert sizes(args) == {"train": 3} and classes(args) == ["cat", "dog"]
    (tmp_path / "way").symlink_to(root)
    args = arguments(train_data_dir=str(tmp_path / "way"))
    assert sizes(args) == {"train": 3} and open_source(args).name == "images"


def loop(root):
    (root / "a" / "again").symlink_to(root)


def loop_of_names(root):
    (root / "here").symlink_to(root / "there")
    (root / "there").symlink_to(root / "here")


def dangling_folder(root):
    (root / "dogs").symlink_to(root / "nowhere")


def dangling_file(root):
    (root / "a" / "2.png").symlink_to(root / "nowhere.png")


def pipe(root):
    os.mkfifo(root / "a" / "2.png")


def no_text(root):
    shutil.copy(root / "a" / "1.png", os.fsencode(root / "a") + b"/\xff.png")


def too_deep(root):
    """Folders whose path is too long for any call of the system."""
    name, inside = "d" * 200, os.open(root, os.O_RDONLY)
    for _ in range(25):
        os.mkdir(name, dir_fd=inside)
        below = os.open(name, os.O_RDONLY, dir_fd=inside)
        os.close(inside)
        inside = below
    os.close(inside)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("hide", "words"),
    [
        (loop, "again is a link to a folder that it lies in"),
        (loop_of_names, "here leads nowhere"),
        (dangling_folder, "dogs leads nowhere"),
        (dangling_file, "2.png leads nowhere"),
        (pipe, "2.png is neither a file nor a folder"),
        (no_text, "has a name that is not UTF-8"),
        (too_deep, "cannot be read (File name too long)"),
    ],
)
def test_what_hides_images_is_named_or_counted(folder, arguments, caplog, hide, words, streaming):
    root = folder({"a/1.png": GREY, "b/2.png": GREY})
    hide(root)
    with refused() as error:
        load_data(arguments(train_data_dir=str(root), streaming=streaming), 0)
    assert words in str(error.value) and str(root) in str(error.value)
    assert "--on_bad_image skip" in str(error.value)
    with caplog.at_level(logging.WARNING, "hf_genmodels"):
        data = load_data(arguments(train_data_dir=str(root), streaming=streaming, on_bad_image="skip"), 0)
    count = 2 if hide is loop_of_names else 1
    assert f"skipped {count} that cannot be read" in caplog.text and words in caplog.text
    assert data.spec.class_names == ("a", "b")
    assert sum(len(batch["index"]) for batch in evaluation_batches(data.train, batch_size=4)) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to this user")
def test_a_closed_folder_is_named(folder, arguments):
    root = folder({"a/1.png": GREY, "b/2.png": GREY})
    (root / "b").chmod(0)
    try:
        with refused("b cannot be read"):
            load_data(arguments(train_data_dir=str(root)), 0)
    finally:
        (root / "b").chmod(0o755)


def frames(root, name, **options):
    pages = [Image.new("L", (4, 4), grey) for grey in (10, 200, 90)]
    pages[0].save(root / name, save_all=True, append_images=pages[1:], **options)


@pytest.mark.parametrize("name", ["9.tif", "9.gif", "9.png", "9.webp"])
@pytest.mark.parametrize("streaming", [False, True])
def test_pictures_behind_the_first_are_not_lost_in_silence(folder, arguments, caplog, name, streaming):
    root = folder({f"{i}.png": GREY for i in range(3)})
    frames(root, name)

    def count(**options):
        data = load_data(arguments(train_data_dir=str(root), streaming=streaming, **options), 0)
        return sum(len(batch["index"]) for batch in evaluation_batches(data.train, batch_size=4))

    with refused(f"{name} holds several pictures"):
        count()
    with caplog.at_level(logging.WARNING, "hf_genmodels"):
        assert count(on_bad_image="skip") == 3
    assert name in caplog.text


def test_the_preview_in_a_photograph_is_no_second_picture(folder, arguments):
    root = folder({})
    pages = [Image.new("RGB", (4, 4), (grey,) * 3) for grey in (10, 200)]
    pages[0].save(root / "1.jpg", format="MPO", save_all=True, append_images=pages[1:])
    assert len(load_data(arguments(train_data_dir=str(root)), 0).train) == 1


@pytest.mark.parametrize("name", ["3.heic", "3.AVIF", "3.psd", "3.CR2", "3.nii.gz"])
@pytest.mark.parametrize("ending", ["png", "npy"])
def test_images_of_other_kinds_are_bad_images(folder, arguments, caplog, name, ending):
    root = folder({f"{i}.{ending}": GREY for i in range(3)} | {name: "something", "notes.txt": "", "x.json": "{}"})
    with refused(f"{name} is an image of a kind that is not read: .*--on_bad_image skip"):
        load_data(arguments(train_data_dir=str(root)), 0)
    with caplog.at_level(logging.WARNING, "hf_genmodels"):
        data = load_data(arguments(train_data_dir=str(root), on_bad_image="skip"), 0)
    assert len(data.train) == 3 and "skipped 1 bad image" in caplog.text
    assert "by their endings" not in caplog.text


def test_other_files_are_told_of_in_one_line(folder, arguments, caplog):
    root = folder({"1.png": GREY, "a.mp4": "", "b.mp4": "", "c.zip": "", "LICENSE": "", ".DS_Store": "", "x.md": ""})
    with caplog.at_level(logging.WARNING, "hf_genmodels"):
        load_data(arguments(train_data_dir=str(root)), 0)
    assert [record.getMessage() for record in caplog.records] == [
        f"{root}: passed over files that are no images by their endings: 2 .mp4, 1 .zip"
    ]


def test_an_earlier_run_among_the_images_is_passed_over(folder, arguments, caplog):
    files = {f"{i}.png": GREY for i in range(3)}
    root = folder(files | {"runs/vae/training_args.json": "{}", "runs/vae/samples/step-1.png": GREY})
    shutil.copytree(root / "runs" / "vae", root / "model")
    (root / "model" / "training_args.json").rename(root / "model" / "model_index.json")
    with caplog.at_level(logging.WARNING, "hf_genmodels"):
        assert sizes(arguments(train_data_dir=str(root))) == {"train": 3}
    assert "passed over model/, runs/vae/, which holds a training run" in caplog.text
    with refused("holds a training run or a model"):
        load_data(arguments(train_data_dir=str(root / "runs" / "vae")), 0)


@pytest.mark.parametrize(
    ("option", "files", "given", "words"),
    [
        ("train_data_dir", {"images/x.zip": "PK"}, "images/x.zip", "no folder: unpack the archive"),
        ("dataset_name", {"images/x.zip": "PK"}, "images/x.zip", "is a file: unpack the archive"),
        ("train_data_dir", {"images/x.zip": "PK", "images/metadata.csv": "a"}, "images", ".zip archives: unpack them"),
        ("dataset_name", {"images/x.zip": "PK"}, "images", "holds no images, but .zip archives: unpack them"),
        ("dataset_name", {"images/x.zip": "PK", "images/metadata.csv": "a"}, "images", ".zip archives: unpack them"),
        ("train_data_dir", {"images/x.parquet": "PAR1"}, "images", "give it as --dataset_name"),
        ("train_data_dir", {"images/x.parquet": "PAR1"}, "images/x.parquet", "give it as --dataset_name"),
        ("train_data_dir", {"images/a.mp4": "", "images/README": ""}, "images", "but 1 without ending, 1 .mp4"),
        ("train_data_dir", {}, "", "is empty: give"),
        ("dataset_name", {}, "", "is empty: give"),
        ("dataset_name", {}, "imagefolder", "give the folder, with --train_data_dir"),
        ("dataset_name", {"images/1.png": GREY}, "csv", "names how `datasets` reads files"),
        ("train_data_dir", {}, "n" * 300, "cannot be looked at: File name too long"),
        ("dataset_name", {}, "n" * 300, "cannot be looked at: File name too long"),
        ("train_data_dir", {}, "a\0b", "cannot be looked at: embedded null byte"),
    ],
)
@pytest.mark.parametrize("suffix", ["", "_b"])
def test_what_is_no_folder_of_images(folder, arguments, monkeypatch, tmp_path, option, files, given, words, suffix):
    folder({**{f"../{name}": content for name, content in files.items()}, "../first/1.png": GREY})
    monkeypatch.chdir(tmp_path)
    first = {"train_data_dir": "first"} if suffix else {}
    args = arguments(**first, **{f"{option}{suffix}": given})
    with refused() as error:
        load_data(args, 0, Layout("domains" if suffix else "image"))
    assert str(error.value).startswith(f"--{option}{suffix} ") and words in str(error.value)


@pytest.mark.parametrize(("size", "count"), [(400, 400), (0.25, 360)])
def test_images_held_out_of_the_training_split(size: float, count: int) -> None:
    args = DataArguments(dataset_name="builtin:digits", validation_size=size, max_train_samples=1000)
    everything = load_data(DataArguments(dataset_name="builtin:digits"), 0).train
    sides = []
    for seed in (0, 1):
        data = load_data(args, seed)
        assert data.validation is not None and data.validation_split == "train"
        assert (len(data.train), len(data.validation)) == (1000, count)
        sides.append(
            [next(evaluation_batches(part, batch_size=2000))["image"] for part in (data.train, data.validation)]
        )
    rows = {
        image.numpy().tobytes(): row
        for row, image in enumerate(next(evaluation_batches(everything, batch_size=2000))["image"])
    }
    learnt, held_out = ([{rows[image.numpy().tobytes()] for image in side[part]} for side in sides] for part in (0, 1))
    assert held_out[0] == held_out[1] and learnt[0] != learnt[1]
    assert not any(seen & held_out[0] for seen in learnt)
