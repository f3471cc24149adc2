"""`hf-genmodels evaluate` reads data as the model's training did, and says which split it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels import CycleGANPipeline, DataArguments, Pix2PixPipeline, UNetTranslator
from hf_genmodels.cli import main
from hf_genmodels.evaluation import evaluate_pipeline
from hf_genmodels.training.train_gan import main as train_gan
from tests.testing_utils.pipelines import tiny_pipeline
from tests.testing_utils.refusals import refused
from tests.testing_utils.translators import shaken


def write(folder: Path, count: int = 6, top: int = 256, width: int = 8, dtype: Any = np.uint8, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    for index, image in enumerate(np.random.default_rng(seed).integers(0, top, (count, 8, width)).astype(dtype)):
        Image.fromarray(image).save(folder / f"{index}.png")
    return folder


def save(pipeline: Any, folder: Path, **arguments: Any) -> str:
    pipeline.save_pretrained(folder)
    (folder / "training_args.json").write_text(json.dumps({"arguments": arguments}))
    return str(folder)


def measured(model: str, data: Path, out: Path, *options: str) -> dict[str, Any]:
    command = ["evaluate", model, "--train_data_dir", str(data), "--split", "train", "--metrics", "mse", *options]
    assert main([*command, "--output_dir", str(out)]) == 0
    (result,) = json.loads((out / "metrics.json").read_text())["evaluation"]
    return result


def test_units_and_modes_are_those_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data", top=4096, dtype=np.uint16)
    pipeline = tiny_pipeline("VAEPipeline", value_scale=4095.0)
    model = save(pipeline, tmp_path / "model", value_range=[0, 4095], convert="grey")
    found = measured(model, data, tmp_path / "out")
    assert "as in the model's training: --value_range 0 4095" in capsys.readouterr().out
    assert (found["settings"]["value_range"], found["settings"]["convert"]) == ([0, 4095], "grey")
    plain = save(pipeline, tmp_path / "plain")
    options = ("--value_range", "0", "4095", "--convert", "grey")
    assert found["value"] == measured(plain, data, tmp_path / "told", *options)["value"]
    others = measured(model, data, tmp_path / "others", "--value_range", "0", "65535")
    assert others["value"] != found["value"] and others["settings"]["value_range"] == [0, 65535]
    settings: dict[str, Any] = {
        "metrics": ["mse"], "num_samples": 6, "batch_size": 3, "extractor": None, "seed": 0, "split": None,
    }  # fmt: skip
    with refused("data: 65535 is white, and in the images that the model learnt from 4095 was; give --value_range"):
        evaluate_pipeline(pipeline, DataArguments(train_data_dir=str(data)), **settings)


def test_halves_are_those_of_training(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = write(tmp_path / "data", width=16)
    one_way = Pix2PixPipeline(shaken(UNetTranslator(1, 1, 8, width=2, num_downs=2)).eval())
    model = save(one_way, tmp_path / "model", direction="b_to_a", side_by_side=True)
    found = measured(model, data, tmp_path / "out", "--side_by_side")
    told = measured(model, data, tmp_path / "told", "--side_by_side", "--direction", "b_to_a")
    other = measured(model, data, tmp_path / "other", "--side_by_side", "--direction", "a_to_b")
    assert found == told and found["settings"]["direction"] == "b_to_a" and other["value"] != found["value"]


def test_domains_of_both_directions_are_those_of_training(tmp_path: Path) -> None:
    """`--direction` is the pipeline's there, between the domains as training named them."""
    torch.manual_seed(0)
    data, swapped = write(tmp_path / "data", width=16), tmp_path / "swapped"
    swapped.mkdir()
    for path in data.iterdir():
        pixels = np.array(Image.open(path))
        Image.fromarray(np.concatenate([pixels[:, 8:], pixels[:, :8]], 1)).save(swapped / path.name)
    networks = [shaken(UNetTranslator(1, 1, 8, width=2, num_downs=2)).eval() for _ in range(2)]
    trained = save(CycleGANPipeline(*networks), tmp_path / "model", direction="b_to_a")
    plain = save(CycleGANPipeline(*networks), tmp_path / "plain", direction="a_to_b")
    for options in (["--side_by_side"], ["--side_by_side", "--direction", "b_to_a"]):
        found = measured(trained, data, tmp_path / f"found{len(options)}", *options)
        assert found["value"] == measured(plain, swapped, tmp_path / f"plain{len(options)}", *options)["value"]
        assert found["value"] != measured(plain, data, tmp_path / f"other{len(options)}", *options)["value"]


def test_splits_of_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write(tmp_path / "a"), write(tmp_path / "b", seed=1)
    both, of_train = tmp_path / "both", tmp_path / "one"
    for folder in (both / "train", both / "val", of_train / "train"):
        write(folder)
    options = ["--metrics", "swd", "--extractor", "pixels"]
    assert main(["evaluate", str(both), "--train_data_dir", str(b), *options]) == 1
    assert f"{both} holds the splits train, validation: give the folder of one, such as {both}/train" in (
        capsys.readouterr().err
    )
    for images in (a, of_train, both / "val"):
        out = tmp_path / f"out {images.name}"
        assert main(["evaluate", str(images), "--train_data_dir", str(b), *options, "--output_dir", str(out)]) == 0
        (result,) = json.loads((out / "metrics.json").read_text())["evaluation"]
        assert result["settings"]["split"] == "train"
    capsys.readouterr()
    assert main(["evaluate", str(a), "--train_data_dir", str(both), *options]) == 1
    assert "both has no split 'test': choose --split from train, validation" in capsys.readouterr().err


def test_a_checkpoint_knows_the_names_of_its_classes(tmp_path: Path, caplog: Any, capsys: Any) -> None:
    for names in ("ab", "xy"):
        for seed, name in enumerate(names):
            write(tmp_path / names / name, seed=seed)
    options = ["--train_batch_size", "4", "--max_train_steps", "2", "--checkpointing_steps", "2", "--num_threads", "1"]
    new = ["--width", "2", "--latent_dim", "2", "--conditioning", "cgan"]
    train_gan(["--train_data_dir", str(tmp_path / "ab"), "--output_dir", str(tmp_path / "run"), *options, *new])
    (tmp_path / "run" / "model_index.json").unlink()  # of a run that was stopped there is none
    capsys.readouterr()
    for names in ("ab", "xy"):
        checkpoint = ["--pretrained_model_name_or_path", str(tmp_path / "run" / "checkpoint-2")]
        out = str(tmp_path / f"on {names}")
        train_gan(["--train_data_dir", str(tmp_path / names), "--output_dir", out, *options, *checkpoint])
        told = capsys.readouterr()
        assert ("are a, b; those of xy, x, y, take their places" in told.out + told.err + caplog.text) == (
            names == "xy"
        )


def test_data_without_labels_have_no_class_to_exclude(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save(tiny_pipeline("VAEPipeline"), tmp_path / "model")
    command = ["evaluate", model, "--train_data_dir", str(write(tmp_path / "data")), "--metrics", "auroc"]
    assert main([*command, "--exclude_label", "a"]) == 1
    assert "auroc needs labels, and the data have none; name the column" in capsys.readouterr().err
