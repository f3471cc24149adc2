"""Several models in one table, and the labels of conditional samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels import (
    VAE,
    Classifier,
    DCGANGenerator,
    GANPipeline,
    InfoGANDiscriminator,
    InfoGANPipeline,
    MLPGenerator,
    VAEPipeline,
)
from hf_genmodels.cli import main
from hf_genmodels.cli.compare import split_model
from hf_genmodels.data import DataArguments
from hf_genmodels.evaluation import evaluate_pipeline
from hf_genmodels.evaluation.comparison import Contestant, compare, markdown
from hf_genmodels.metrics.extractors import Extracted, Extractor
from hf_genmodels.pipelines.images import to_network
from tests.testing_utils.refusals import refused

DATA = DataArguments(dataset_name="builtin:digits")
OF_ALL = {"split": "test", "num_samples": 24, "batch_size": 10, "extractor": "pixels", "seed": 0, "progress": False}


def vae(seed: int, size: int = 8) -> VAEPipeline:
    torch.manual_seed(seed)
    return VAEPipeline(VAE(1, size, latent_dim=2, block_out_channels=(4, 8)), value_scale=16)


def test_each_is_measured_as_evaluate_does() -> None:
    contestants = [Contestant("one", vae(0)), Contestant("other | cgan", conditional(), {"truncation": 0.5})]
    found = compare(contestants, DATA, metrics=["fid", "precision_recall"], repeats=2, **OF_ALL)
    for model, each in zip(found["models"], contestants, strict=True):
        alone = evaluate_pipeline(
            each.pipeline, DATA, metrics=["fid", "precision_recall"], sampling=each.sampling, **OF_ALL
        )
        assert model["figures"] == {result["name"]: result["value"] for result in alone}
        assert model["seconds a sample"] > 0
        networks = each.pipeline.components.values()
        assert model["parameters"] == sum(p.numel() for network in networks for p in network.parameters())
    assert found["settings"]["extractor"] == "pixels" and found["timing"]["repeats"] == 2
    table = markdown(found).splitlines()
    assert table[0].startswith("| Model | Sampling | Parameters | FID | precision | recall | seconds a sample |")
    assert "other \\| cgan | truncation 0.5" in table[3]
    fids = [model["figures"]["FID"] for model in found["models"]]
    assert f"**{min(fids):.3g}**" in table[2 + fids.index(min(fids))]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate("ab"):
        vae(seed).save_pretrained(tmp_path / name)
    words = ["--dataset_name", "builtin:digits", "--extractor", "pixels", "--num_samples", "12", "--repeats", "1"]
    models = [str(tmp_path / name) for name in "ab"]
    assert main(["compare", *models, *words, "--output_dir", str(tmp_path / "found")]) == 0
    table = (tmp_path / "found" / "comparison.md").read_text()
    assert table in capsys.readouterr().out
    written = json.loads((tmp_path / "found" / "comparison.json").read_text())
    assert [model["name"] for model in written["models"]] == ["a", "b"]
    assert main(["compare", models[0], f"{models[1]}@num_inference_steps=3", *words]) == 1
    assert "--num_inference_steps: a VAEPipeline has no such option" in capsys.readouterr().err


def test_models_with_options() -> None:
    assert split_model("runs/d@num_inference_steps=20,guidance_scale=2.5") == (
        "runs/d",
        {"num_inference_steps": 20, "guidance_scale": 2.5},
    )
    assert split_model("user/name@v1") == ("user/name@v1", {})
    with refused("'steps' is no option of sampling; choose from num_inference_steps"):
        split_model("d@steps=2")
    with refused("num_inference_steps must be a number, got 'x'"):
        split_model("d@num_inference_steps=x")


def test_what_cannot_be_compared() -> None:
    for contestants, match in (
        ([Contestant("a", vae(0))], "compare needs two models or more"),
        ([Contestant("a", vae(0)), Contestant("a", vae(1))], "two models are called a"),
        (
            [Contestant("a", vae(0)), Contestant("b", vae(1, 16))],
            "b makes samples of shape .1, 16, 16., a of .1, 8, 8.",
        ),
    ):
        with refused(match):
            compare(contestants, DATA, metrics=["fid"], **OF_ALL)


def test_what_cannot_be_measured_is_refused_before_anything_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VAEPipeline, "__call__", None)
    pair = [Contestant("a", vae(0)), Contestant("b", conditional())]
    with refused("unknown metric 'nosuch'; choose from fid"):
        compare(pair, DATA, metrics=["nosuch"], **OF_ALL)
    with refused("mse needs reconstructions, and GANPipeline has no"):
        compare(pair, DATA, metrics=["mse"], **OF_ALL)
    with refused("--metrics auroc is of labels for one of a and b, of anomalies for the other"):
        compare(pair, DATA, metrics=["auroc"], **OF_ALL)


def test_models_that_read_their_data_differently(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for index in range(6):
        image = np.random.default_rng(index).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(image).save(images / f"{index}.png")
    for seed, (name, convert) in enumerate({"a": "grey", "b": "grey", "c": None}.items()):
        vae(seed).save_pretrained(tmp_path / name)
        (tmp_path / name / "training_args.json").write_text(json.dumps({"arguments": {"convert": convert}}))
    a, b, c = (str(tmp_path / name) for name in "abc")
    words = ["--train_data_dir", str(images), "--extractor", "pixels", "--num_samples", "6", "--repeats", "1"]
    assert main(["compare", a, b, *words, "--metrics", "swd"]) == 0
    assert "as in the model's training: --convert grey" in capsys.readouterr().out
    assert main(["compare", a, c, *words, "--metrics", "swd"]) == 1
    assert "--convert: a was trained with grey, c with the default" in capsys.readouterr().err
    assert main(["compare", a, c, *words, "--metrics", "swd", "--convert", "grey"]) == 0
    assert main(["inspect", a, "--train_data_dir", str(images), "--nearest", "2"]) == 0
    assert "as in the model's training: --convert grey" in capsys.readouterr().out


# labels --------------------------------------------------------------------------------------------------------------


def conditional(classes: int = 10) -> GANPipeline:
    torch.manual_seed(0)
    return GANPipeline(DCGANGenerator(2, 1, 8, width=2, conditioning="concat", num_classes=classes), value_scale=16)


def test_accuracy_and_auroc_of_labels() -> None:
    pipeline = conditional()
    torch.manual_seed(1)
    classifier = Classifier(in_channels=1, sample_size=8, num_classes=10, block_out_channels=(4,)).eval()

    def network(images: torch.Tensor) -> Extracted:
        output = classifier(2 * images - 1)
        return Extracted(output.features, output.logits.softmax(1))

    judge = Extractor("judge", network, has_probabilities=True)
    options = {**OF_ALL, "extractor": judge}
    found = compare(
        [Contestant("a", pipeline), Contestant("b", conditional())], DATA, metrics=["auroc"], repeats=1, **options
    )
    assert found["models"][0]["figures"].keys() == {"label AUROC"}
    alone = evaluate_pipeline(pipeline, DATA, metrics=["fid"], **options)
    fid, accuracy, area = evaluate_pipeline(pipeline, DATA, metrics=["fid", "accuracy", "auroc"], **options)
    assert fid == alone[0]  # whatever else was asked for

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 10
    images = [
        pipeline(class_labels=part.tolist(), generator=generator, output_type="pt").images for part in labels.split(10)
    ]
    with torch.no_grad():
        probabilities = classifier(to_network(torch.cat(images), (1, 8, 8), 16)).logits.softmax(1).double()
    assert (accuracy["name"], area["name"]) == ("label accuracy", "label AUROC")
    assert accuracy["value"] == pytest.approx(float((probabilities.argmax(1) == labels).double().mean()))
    areas = []
    for each in range(10):
        pairs = probabilities[labels == each, each][:, None] - probabilities[labels != each, each]
        areas.append(float(((pairs > 0) + 0.5 * (pairs == 0)).double().mean()))
    assert area["value"] == pytest.approx(sum(areas) / 10)


def test_labels_that_nobody_knows() -> None:
    judge = Extractor(
        "judge", lambda images: Extracted(images.flatten(1), images.flatten(1)[:, :3]), has_probabilities=True
    )
    with refused("accuracy needs samples of classes that are asked for, and this VAEPipeline knows no classes"):
        evaluate_pipeline(vae(0), DATA, metrics=["accuracy"], **{**OF_ALL, "extractor": judge})
    generator = MLPGenerator(2, 1, 8, hidden_dims=(8,), num_classes=3, conditioning="concat")
    infogan = InfoGANPipeline(generator, InfoGANDiscriminator(1, 8, 3, 0, hidden_dims=(8,)))
    for metrics, message in (
        (["accuracy", "auroc"], "accuracy needs classes of labelled data, and the categories of this InfoGANPipeline"),
        (["auroc"], "auroc needs anomaly scores, and InfoGANPipeline has no"),
    ):
        with refused(message):
            evaluate_pipeline(infogan, DATA, metrics=metrics, **{**OF_ALL, "extractor": judge})
    with refused("accuracy needs --extractor"):
        evaluate_pipeline(conditional(), DATA, metrics=["accuracy"], **{**OF_ALL, "extractor": None})
    with refused("accuracy needs class probabilities, and extractor pixels gives none"):
        evaluate_pipeline(conditional(), DATA, metrics=["accuracy"], **OF_ALL)
    with refused("the model knows 10 classes and extractor judge 3"):
        evaluate_pipeline(conditional(), DATA, metrics=["accuracy"], **{**OF_ALL, "extractor": judge})
