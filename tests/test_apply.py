"""Pipelines applied to folders of images: names, metadata, going on, bad images."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import hf_genmodels
from hf_genmodels import DataArguments, GenerativePipeline
from hf_genmodels.apply import Applied, apply_pipeline
from hf_genmodels.cli import main
from hf_genmodels.cli.apply import TASKS
from hf_genmodels.data import load_split
from hf_genmodels.data.conversion import Conversion
from tests.families import TINY
from tests.testing_utils.full_disk import full_disk
from tests.testing_utils.pipelines import networks, random_images, tiny_pipeline
from tests.testing_utils.refusals import refused

NAMES = ("a/0.png", "a/1.tif", "b c/0.png", "b c/x.y.png", "é.png")
CASES = [(name, task) for name in TINY for task in getattr(hf_genmodels, name).tasks]


def write_images(folder: Path, pipeline: GenerativePipeline, names: tuple[str, ...] = NAMES) -> torch.Tensor:
    """Images that the pipeline takes, (number, channels, height, width) in [0, 1]."""
    config = next(iter(networks(pipeline).values())).config
    shape = pipeline.sample_shape
    shape = (config.in_channels, *shape[1:]) if "translate" in pipeline.tasks else shape
    images = random_images(shape, len(names))
    for name, image in zip(names, images, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels.squeeze(-1) if shape[0] == 1 else pixels).save(folder / name)
    return images


def options_of(pipeline: GenerativePipeline, task: str) -> dict[str, Any]:
    options: dict[str, Any] = {"class_labels": 1} if pipeline.num_classes else {}
    if "DDPM" in type(pipeline).__name__:
        options |= {"num_timesteps": 2} if task == "score" else {"num_inference_steps": 2}
    return options


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_task_of_every_pipeline(name: str, task: Any, tmp_path: Path) -> None:
    pipeline = tiny_pipeline(name)
    images = write_images(tmp_path / "in", pipeline)
    options = options_of(pipeline, task)
    settings: dict[str, Any] = {"task": task, "batch_size": 2, "options": options, "progress": False}
    assert apply_pipeline(pipeline, tmp_path / "in", tmp_path / "out", **settings) == Applied(5, 0, 0)
    whole = contents(tmp_path / "out")
    labels = {"class_labels": [1]} if "class_labels" in options else {}
    first = {**options, **labels}
    if task == "score":
        with (tmp_path / "out" / "scores.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["file_name"] for row in rows] == list(NAMES) and set(rows[0]) == {"file_name", *pipeline.scores}
        assert all(np.isfinite(float(row[score])) for row in rows for score in pipeline.scores)
    else:
        stems = {name.rpartition(".")[0] for name in NAMES}
        assert {path.rpartition(".")[0] for path in whole} - {"apply"} == stems
        found = np.load(tmp_path / "out/é.npy") if "é.npy" in whole else Image.open(tmp_path / "out/é.png")
        tolerance = 1 if isinstance(found, Image.Image) else 1e-4  # of 8-bit values, or of numbers
        method = pipeline if task == "translate" else getattr(pipeline, task)
        (alone,) = tiny_results(method(images[4:], **with_generator(method, first)))
        np.testing.assert_allclose(np.asarray(found, float), np.asarray(alone, float), rtol=1e-4, atol=tolerance)
    # what is there is not made again, and what is missing comes out the same
    for gone in ("a/0", "é"):
        for path in (tmp_path / "out").glob(f"{gone}.*"):
            path.unlink()
    if task == "score":
        text = (tmp_path / "out" / "scores.csv").read_text()
        (tmp_path / "out" / "scores.csv").write_text(text[: text.index("b c/x") + 7])
    again = apply_pipeline(pipeline, tmp_path / "in", tmp_path / "out", **settings)
    assert again == Applied(2, 3, 0) and contents(tmp_path / "out") == whole


def with_generator(method: Any, options: dict[str, Any]) -> dict[str, Any]:
    import inspect

    accepted = inspect.signature(method).parameters
    seeded = {"generator": torch.Generator().manual_seed(4)} if "generator" in accepted else {}
    return {name: value for name, value in options.items() if name in accepted} | seeded


def tiny_results(result: Any) -> Any:
    return result.numpy() if isinstance(result, torch.Tensor) else result.images


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_class_says_what_it_can_do_to_images(name: str) -> None:
    kind = getattr(hf_genmodels, name)
    assert set(kind.tasks) <= set(TASKS)
    for task in set(kind.tasks) - {"translate", "score"}:
        assert hasattr(kind, task)
    assert ("score" in kind.tasks) is bool(kind.scores)
    assert set(kind.scores) == {each for each in ("log_likelihood", "anomaly_score") if hasattr(kind, each)}
    assert ("translate" in kind.tasks) is not kind.measures.isdisjoint({"translations", "label_maps"})


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_metadata_goes_along(kind: str, tmp_path: Path) -> None:
    pipeline = tiny_pipeline("AutoencoderPipeline")
    write_images(tmp_path / "in", pipeline, ("a/0.tif", "a/1.png", "a/2.png"))
    rows = [{"file_name": f"{index}.{'png' if index else 'tif'}", "label": f"n°{index}, x"} for index in range(3)]
    metadata = tmp_path / "in" / "a" / f"metadata.{kind}"
    if kind == "jsonl":
        metadata.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif kind == "csv":
        with metadata.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["file_name", "label"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        import pyarrow as pa

        pq.write_table(pa.Table.from_pylist(rows), metadata)
    (tmp_path / "in" / "a" / "1.png").write_bytes(b"cut")
    done = apply_pipeline(pipeline, tmp_path / "in", tmp_path / "out", on_bad_image="skip", progress=False)
    assert done == Applied(2, 0, 1)
    data = load_split(DataArguments(train_data_dir=str(tmp_path / "out")), "train")
    assert data.spec.class_names == ("n°0, x", "n°2, x") and len(data) == 2


def test_a_cut_off_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = tiny_pipeline("VAEPipeline")
    pipeline.save_pretrained(tmp_path / "model")
    write_images(tmp_path / "in", pipeline)
    command = ["apply", str(tmp_path / "model"), str(tmp_path / "in"), "--batch_size", "2", "--output_dir"]
    for task, kind in (("score", "csv"), ("score", "jsonl"), ("encode", "csv")):
        whole, out = tmp_path / f"whole-{task}-{kind}", tmp_path / f"out-{task}-{kind}"
        options = ["--task", task, "--scores_format", kind]
        assert main([*command, str(whole), *options]) == 0
        size = 100 + max(len(content) for name, content in contents(whole).items() if name == "apply.json")
        with full_disk(size if task == "score" else 0):
            assert main([*command, str(out), *options]) in (0, 1)
        assert main([*command, str(out), *options]) == 0
        assert contents(out) == contents(whole)
    with full_disk(0):
        assert main([*command, str(tmp_path / "full"), "--task", "encode"]) == 1
    assert "cannot be written: File too large" in capsys.readouterr().err


def test_translators_take_images_of_any_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = tiny_pipeline("CycleGANPipeline")
    pipeline.save_pretrained(tmp_path / "model")
    (tmp_path / "in").mkdir()
    for index, size in enumerate([(16, 8), (8, 8), (16, 8), (24, 16)]):
        Image.effect_noise(size, 50).save(tmp_path / "in" / f"{index}.png")
    command = ["apply", str(tmp_path / "model"), str(tmp_path / "in"), "--output_dir", str(tmp_path / "out")]
    assert main([*command, "--direction", "b_to_a", "--tile_size", "8"]) == 0
    assert "4 images done" in capsys.readouterr().out
    sizes = [Image.open(tmp_path / "out" / f"{index}.png").size for index in range(4)]
    assert sizes == [(16, 8), (8, 8), (16, 8), (24, 16)]
    expected = pipeline(Image.open(tmp_path / "in" / "3.png"), direction="b_to_a", tile_size=8).images[0]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "3.png")), np.asarray(expected))


def test_classes_have_names(tmp_path: Path) -> None:
    pipeline = tiny_pipeline("ConditionalDDPMPipeline")
    count = pipeline.num_classes
    assert count is not None
    pipeline.register_classes({index: f"class {index}" for index in range(count)})
    write_images(tmp_path / "in", pipeline, ("a.png",))
    codes = []
    for number, given in enumerate((1, "class 1")):
        options = {"class_labels": given, "num_inference_steps": 2}
        out = tmp_path / str(number)
        apply_pipeline(pipeline, tmp_path / "in", out, task="encode", options=options, progress=False)
        codes.append(np.load(out / "a.npy"))
    np.testing.assert_array_equal(*codes)


REFUSED: dict[str, tuple[list[str], str]] = {
    "another task": (["--task", "translate"], "a VAEPipeline cannot translate images; choose --task from reconstruct"),
    "another option": (["--tile_size", "8"], "--tile_size: a VAEPipeline has no such option to reconstruct"),
    "the folder of the images": (["--output_dir", "{}/in/out"], "whose images are read"),
    "a used folder": (["--output_dir", "{}/model"], "is not empty"),
    "a file": (["--output_dir", "{}/in/a/0.png"], "is a file"),
    "a batch": (["--batch_size", "0"], "--batch_size must be at least 1"),
    "a resolution": (["--resolution", "8", "8", "8"], "--resolution 8 8 8 is neither"),
    "a range": (["--value_range", "3", "1"], "--value_range 3.0 1.0 is no range"),
    "an infinite range": (["--value_range", "0", "inf"], "--value_range 0.0 inf is no range"),
    "a seed": (["--seed", str(2**64)], "--seed must fit into 64 bits"),
    "a seed that overflows": (["--task", "score", "--seed", str(2**64 - 1)], "--seed must fit into 64 bits"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = tiny_pipeline("VAEPipeline")
    pipeline.save_pretrained(tmp_path / "model")
    write_images(tmp_path / "in", pipeline)
    before = contents(tmp_path)
    command = ["apply", str(tmp_path / "model"), str(tmp_path / "in"), "--output_dir", str(tmp_path / "out")]
    assert main([*command, *(option.format(tmp_path) for option in options)]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert contents(tmp_path) == before


def test_other_folders_are_refused(tmp_path: Path) -> None:
    pipeline = tiny_pipeline("VAEPipeline")
    pipeline.save_pretrained(tmp_path / "model")
    write_images(tmp_path / "in", pipeline)
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    for folder, message in (("absent", "is no folder"), ("empty", "holds no images"), ("model", "or a model")):
        with refused(message):
            apply_pipeline(pipeline, tmp_path / folder, out, progress=False)
    with refused("a GANPipeline does nothing to images"):
        apply_pipeline(tiny_pipeline("GANPipeline"), tmp_path / "in", out, progress=False)
    (tmp_path / "in" / "a" / "0.jpg").write_bytes((tmp_path / "in" / "a" / "0.png").read_bytes())
    with refused("a/0.jpg, a/0.png would have one name"):
        apply_pipeline(pipeline, tmp_path / "in", out, progress=False)
    assert not out.exists() or not any(out.iterdir())


def test_images_that_do_not_fit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipeline = tiny_pipeline("VAEPipeline")
    folder, out = tmp_path / "in", tmp_path / "out"
    write_images(folder, pipeline, ("good.png", "z.png"))
    Image.new("L", (20, 30)).save(folder / "large.png")
    Image.new("RGB", (8, 8)).save(folder / "colour.png")
    (folder / "heic.heic").write_bytes(b"heic")
    noise = Image.effect_noise((8, 8), 50)
    noise.save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:60])
    for bad, reason in (
        ("colour", r"has shape \(3, 8, 8\) where the model takes \(1, 8, 8\)"),
        ("heic", "is an image of a kind that is not read"),
        ("large", r"is 30x20 \(height x width\) where the model takes 8x8: pass --resolution 8 8"),
        ("cut", "cannot be read"),
    ):
        with refused(f"{bad}.*{reason}.*--on_bad_image skip"):
            apply_pipeline(pipeline, folder, out, progress=False)
        if bad != "cut":
            (path,) = folder.glob(f"{bad}.*")
            path.rename(tmp_path / path.name)
    assert not any(out.iterdir())
    for path in [path for path in tmp_path.iterdir() if path.is_file()]:
        path.rename(folder / path.name)
    assert apply_pipeline(pipeline, folder, out, on_bad_image="skip", progress=False) == Applied(2, 0, 4)
    assert {path.name for path in out.iterdir()} == {"good.png", "z.png", "apply.json"}
    assert caplog.text.count("left out: ") == 4
    resized = {"resolution": (8, 8), "on_bad_image": "skip", "progress": False}
    assert apply_pipeline(pipeline, folder, tmp_path / "other", **resized) == Applied(3, 0, 3)
    converted = {"conversion": Conversion("grey"), "on_bad_image": "skip", "progress": False}
    assert apply_pipeline(pipeline, folder, tmp_path / "grey", **converted) == Applied(3, 0, 3)
    with refused("holds what was made with another resolution; choose another one"):
        apply_pipeline(pipeline, folder, out, **resized)


def test_another_model_does_not_go_on(tmp_path: Path) -> None:
    first, second = (tiny_pipeline("VAEPipeline") for _ in range(2))
    with torch.no_grad():
        next(second.vae.parameters()).add_(1)
    write_images(tmp_path / "in", first)
    for name, pipeline in (("first", first), ("second", second)):
        pipeline.save_pretrained(tmp_path / name)
        loaded = type(pipeline).from_pretrained(tmp_path / name)
        if name == "first":
            apply_pipeline(loaded, tmp_path / "in", tmp_path / "out", progress=False)
        else:
            with refused("holds what was made with another weights"):
                apply_pipeline(loaded, tmp_path / "in", tmp_path / "out", progress=False)


def test_other_images_of_the_same_names_do_not_go_on(tmp_path: Path) -> None:
    pipeline = tiny_pipeline("VAEPipeline")
    for folder in ("first", "second"):
        write_images(tmp_path / folder, pipeline, ("0.png", "1.png"))
    Image.new("L", (8, 8)).save(tmp_path / "second" / "1.png")
    for task in ("reconstruct", "score"):
        settings: dict[str, Any] = {"task": task, "progress": False}
        apply_pipeline(pipeline, tmp_path / "first", tmp_path / task, **settings)
        before = contents(tmp_path / task)
        with refused("holds what was made of another 1.png; choose another one"):
            apply_pipeline(pipeline, tmp_path / "second", tmp_path / task, **settings)
        assert contents(tmp_path / task) == before
    (tmp_path / "first" / "0.jpg").write_bytes((tmp_path / "first" / "0.png").read_bytes())
    assert apply_pipeline(pipeline, tmp_path / "first", tmp_path / "score", **settings) == Applied(1, 2, 0)
    (tmp_path / "first" / "1.png").unlink()
    with refused("holds what was made of another 1.png"):
        apply_pipeline(pipeline, tmp_path / "first", tmp_path / "score", **settings)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000, "line 1 of .* is no JSON: nested too deeply"),
        ("[1]", "line 1 of .* is no JSON object"),
        ('{"file_name": "../x.png"}', "give a path inside"),
    ],
)
def test_metadata_is_read_before_the_first_image(line: str, message: str, tmp_path: Path) -> None:
    pipeline = tiny_pipeline("VAEPipeline")
    write_images(tmp_path / "in", pipeline, ("0.png",))
    (tmp_path / "in" / "metadata.jsonl").write_text(line + "\n", encoding="utf-8")
    with refused(message):
        apply_pipeline(pipeline, tmp_path / "in", tmp_path / "out", progress=False)
    assert not contents(tmp_path / "out")


def test_sixteen_bits_are_in_the_units_of_training(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 4096, (8, 8)).astype(np.uint16)
    (tmp_path / "in").mkdir()
    Image.fromarray(counts).save(tmp_path / "in" / "1.png")
    pipeline = tiny_pipeline("Pix2PixPipeline")
    pipeline.register_to_config(source_value_scale=4095.0)
    apply_pipeline(pipeline, tmp_path / "in", tmp_path / "out", progress=False)
    (expected,) = pipeline(torch.from_numpy(counts / np.float32(4095))[None]).images
    assert Image.open(tmp_path / "out" / "1.png").tobytes() == expected.tobytes()


def test_modes_are_converted_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, folder = tmp_path / "model", tmp_path / "in"
    pipeline = tiny_pipeline("VAEPipeline", (3, 8, 8))
    pipeline.save_pretrained(model)
    folder.mkdir()
    for mode in ("L", "RGBA", "P"):
        Image.new(mode, (8, 8)).save(folder / f"{mode}.png")
    words = ["apply", str(model), str(folder), "--output_dir", str(tmp_path / "out"), "--task", "reconstruct"]
    assert main(words) == 1 and "--convert" in capsys.readouterr().err
    assert main([*words, "--convert", "rgb"]) == 0
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"L.png", "RGBA.png", "P.png"}
