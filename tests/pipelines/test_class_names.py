"""Names of the classes: kept by training, given as `class_labels`, shown by the card, compared in further training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_genmodels import (
    FAMILIES,
    AutoPipeline,
    ConditionalDDPMPipeline,
    DCGANGenerator,
    FlowPipeline,
    GANPipeline,
    Glow,
    LatentDDPMPipeline,
)
from hf_genmodels.cards import make_card
from hf_genmodels.cli import main
from hf_genmodels.pipelines.labels import find_names
from tests.testing_utils.networks import tiny_autoencoding, tiny_denoiser
from tests.testing_utils.objectives import IMAGES
from tests.testing_utils.refusals import refused

NAMES = {0: "T-shirt", 1: "Trouser", 2: "2"}


def gan(**options: Any) -> GANPipeline:
    return GANPipeline(DCGANGenerator(2, 1, 8, width=2, conditioning="concat", num_classes=3), **options)


def flow(**options: Any) -> FlowPipeline:
    network = Glow(1, 8, hidden_channels=4, num_scales=1, num_flow_steps=1, num_classes=3)
    with torch.no_grad():
        for parameter in network.parameters():  # a new one tells no classes apart
            parameter.add_(0.1 * torch.randn_like(parameter))
    return FlowPipeline(network, **options)


def ddpm(**options: Any) -> ConditionalDDPMPipeline:
    return ConditionalDDPMPipeline(*tiny_denoiser((1, 8, 8), num_classes=3), **options)


def latents(**options: Any) -> LatentDDPMPipeline:
    from hf_genmodels import VAE

    return LatentDDPMPipeline(tiny_autoencoding(VAE, (1, 8, 8)), *tiny_denoiser((2,), num_classes=3), **options)


CONDITIONAL = {"gan": gan, "flow": flow, "ddpm": ddpm, "latents": latents}
# family -> options of a class-conditional model of images of 8 x 8
FAMILY_OPTIONS: dict[str, dict[str, Any]] = {
    "gan": {"conditioning": "cgan", "width": 2},
    "flow": {"class_conditional": True, "hidden_channels": 4, "num_flow_steps": 1, "num_scales": 1},
    "ddpm": {"class_conditional": True, "block_out_channels": [8], "layers_per_block": 1, "ddpm_num_steps": 25},
}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_names_stand_for_numbers_wherever_labels_do(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first: Any = CONDITIONAL[name](id2label=NAMES)
    first.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["id2label"] == {
        "0": "T-shirt",
        "1": "Trouser",
        "2": "2",
    }
    pipe: Any = AutoPipeline.from_pretrained(tmp_path)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.id2label == first.id2label == NAMES

    def drawn(class_labels: Any) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return pipe(2, generator, class_labels=class_labels, output_type="pt").images

    assert torch.equal(drawn("Trouser"), drawn(1)) and not torch.equal(drawn(0), drawn(1))
    assert torch.equal(drawn(["2", "T-shirt"]), drawn([2, 0])) and torch.equal(drawn(("2", 0)), drawn([2, 0]))
    images, found = torch.rand(2, 1, 8, 8), []
    for label in ("2", 2):
        if name == "gan":
            found.append(pipe.invert(images, 2, class_labels=label, generator=torch.Generator().manual_seed(0)))
        else:
            found.append(pipe.encode(images, class_labels=label))
    assert torch.equal(*found)
    with refused("class_labels: no classes are called 'Dress'; choose from T-shirt, Trouser, 2, or give a number"):
        drawn("Dress")


@pytest.mark.parametrize("names", [{0: "a", 1: "b"}, {0: "a", 1: "b", 3: "c"}, {0: "a", 1: "b", 2: 3}, {"x": "a"}])
@pytest.mark.parametrize("name", CONDITIONAL)
def test_names_of_other_classes_are_refused(name: str, names: dict[Any, Any]) -> None:
    with refused("id2label must"):
        CONDITIONAL[name](id2label=names)


def test_models_without_names_and_names_that_two_classes_have() -> None:
    with refused(r"must be one whole number .*, got 'Trouser': this model has no names of classes \(id2label\)"):
        gan()(class_labels="Trouser")
    assert gan().id2label is None and gan()(class_labels=2).images
    with refused("class_labels: 2 classes are called 'crane'"):
        gan(id2label={0: "crane", 1: "crane", 2: "cup"})(class_labels="crane")


@pytest.mark.parametrize("family", FAMILY_OPTIONS)
def test_training_keeps_the_names_of_its_data_and_compares_them_when_it_goes_on(family: str, tmp_path: Path) -> None:
    kind = FAMILIES[family]
    data = dataclasses.replace(IMAGES, class_names=("a", "b", "c"))
    options = kind.arguments(**FAMILY_OPTIONS[family])
    objective = kind.build(options, data)
    pipeline = objective.pipeline(objective.networks)
    assert pipeline is not None and pipeline.id2label == {0: "a", 1: "b", 2: "c"}
    pipeline.save_pretrained(tmp_path)
    for name, network in objective.networks.items():
        if name not in pipeline.components:
            network.save_pretrained(str(tmp_path / "training_networks" / name))
    assert "Its classes, by number: 0 `a`, 1 `b`, 2 `c`." in str(make_card(tmp_path))
    assert kind.reload(tmp_path, kind.arguments(), data).notes == ()
    again = kind.reload(tmp_path, kind.arguments(), dataclasses.replace(data, class_names=("c", "a", "b")))
    assert [note.partition(" are ")[2] for note in again.notes] == [
        f"a, b, c; those of {data.name}, c, a, b, take their places in this order"
    ]
    named = again.pipeline(again.networks)
    assert named is not None and named.id2label == {0: "c", 1: "a", 2: "b"}


def test_words_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A word is a name where a class is called so, else a number."""
    torch.manual_seed(0)
    gan(id2label={0: "T-shirt", 1: "Trouser", 2: "0"}).save_pretrained(tmp_path / "model")
    outs = []
    for number, words in enumerate((["Trouser", "0", "0"], ["1", "2", "2"])):
        out = tmp_path / str(number)
        command = ["sample", str(tmp_path / "model"), "--num_samples", "3", "--output_dir", str(out)]
        assert main([*command, "--class_labels", *words]) == 0
        outs.append([path.read_bytes() for path in sorted(out.glob("0*.png"))])
    assert outs[0] == outs[1] and len(outs[0]) == 3
    capsys.readouterr()
    assert main([*command[:-1], str(tmp_path / "other"), "--class_labels", "Dress"]) == 1
    assert "no classes are called 'Dress'" in capsys.readouterr().err


@pytest.mark.parametrize("names", [["a", "b"], "ab", 3])
def test_names_of_another_kind_are_refused(names):
    with refused("id2label must be a dict"):
        find_names(names, 2)
