"""Label maps as targets of pix2pix: what is minimised, which options go together, held-out figures and pictures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels import DataSpec, LabelMapPipeline, LabelMaps
from hf_genmodels.data.spec import Part
from hf_genmodels.families.pix2pix import Pix2PixArguments, build, layout, reload
from hf_genmodels.losses.segmentation import cross_entropy, soft_dice_loss
from hf_genmodels.metrics.segmentation import agreement, overlaps
from hf_genmodels.objectives.label_maps import LabelMapObjective
from hf_genmodels.training.train_pix2pix import main as train_pix2pix
from tests.testing_utils.adversarial_objectives import save_run
from tests.testing_utils.objectives import seeded_noise
from tests.testing_utils.refusals import refused

COLORS = ((0, 0, 0), (255, 0, 0), (0, 51, 255))
MAPS = LabelMaps(("sky", "sea", "land"), 255, COLORS, pixels=(60, 30, 10))
TARGET = DataSpec("maps", 1, (8, 8), 1.0, None, 100, "1" * 12, label_maps=MAPS)
DATA = DataSpec("maps", 1, (8, 8), 255.0, None, 100, "0" * 12, other=TARGET)


def arguments(**options):
    defaults = {"target_kind": "labels", "adversarial_weight": 0.0, "width": 2, "num_downs": 2, "dropout": 0.0}
    return Pix2PixArguments(**defaults | options)


def objective(**options) -> LabelMapObjective:
    torch.manual_seed(0)
    return build(arguments(**options), DATA)


def batch(seed=0, count=3):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count, 1, 8, 8), generator=generator)
    labels[0, :, :2] = 255
    return {"conditioning_image": torch.rand(count, 1, 8, 8, generator=generator) * 2 - 1, "target_image": labels}


@pytest.mark.parametrize(
    ("options", "numbers", "weights"),
    [
        ({}, (1, 0), None),
        ({"dice_weight": 0.5, "cross_entropy_weight": 2.0}, (2, 0.5), None),
        ({"dice_weight": 1.0, "cross_entropy_weight": 0.0, "class_weights": ["1", "2", "0.5"]}, (0, 1), [1, 2, 0.5]),
        ({"class_weights": ["balanced"]}, (1, 0), [100 / 180, 100 / 90, 100 / 30]),
    ],
    ids=["cross-entropy", "both", "Dice", "balanced"],
)
def test_losses(options, numbers, weights):
    tested, examples = objective(**options), batch()
    (phase,) = tested.phases
    losses = tested.losses(phase, tested.networks, examples, seeded_noise(), {})
    logits = tested.networks["generator"](examples["conditioning_image"]).sample
    assert logits.shape == (3, 3, 8, 8) and logits.abs().max() > 0
    given = logits, examples["target_image"][:, 0], 255, None if weights is None else torch.tensor(weights)
    expected = {"cross entropy": cross_entropy(*given).mean(), "Dice loss": soft_dice_loss(*given).mean()}
    total = sum(number * loss for number, loss in zip(numbers, expected.values(), strict=True))
    assert losses["loss"].item() == pytest.approx(total.item())
    shown = {name: loss for name, number, loss in zip(expected, numbers, expected.values(), strict=True) if number}
    assert {name: loss.item() for name, loss in losses.items() if name != "loss"} == pytest.approx(
        {name: loss.item() for name, loss in shown.items()}
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adversarial_weight": 1.0}, "--target_kind labels has no adversarial term.* give --adversarial_weight 0"),
        ({"reconstruction_loss": "mse"}, "--reconstruction_loss has no meaning with --target_kind labels"),
        ({"cross_entropy_weight": 0.0}, "--cross_entropy_weight and --dice_weight are both 0"),
        ({"class_weights": ["1", "2"]}, "--class_weights: 2 weights for 3 classes"),
        ({"class_weights": ["1", "2", "much"]}, "--class_weights 1 2 much: give a number for each class, or balanced"),
        ({"class_weights": ["1", "-2", "3"]}, "--class_weights 1 -2 3: weights are at least 0"),
        ({"target_kind": "image", "dice_weight": 1.0}, "--dice_weight has no meaning without --target_kind labels"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with refused(message):
        objective(**options)


def test_images_are_no_label_maps():
    with refused("the targets are no label maps"):
        LabelMapObjective(objective().networks["generator"], dataclasses.replace(DATA, other=DATA))


def test_layout_names_the_classes():
    assert layout(Pix2PixArguments()).label_maps is None
    made = layout(arguments(label_names=["a", "b"], ignore_index=7))
    assert made.kind == "pair" and made.label_maps == LabelMaps(("a", "b"), 7)


def test_held_out_figures_are_of_all_pixels():
    tested, examples = objective(), batch()
    networks = {name: network.eval() for name, network in tested.networks.items()}
    with torch.no_grad():
        found = tested.evaluate(networks, examples, torch.Generator())
        logits = networks["generator"](examples["conditioning_image"]).sample
    labels = examples["target_image"][:, 0]
    torch.testing.assert_close(found["cross entropy"], cross_entropy(logits, labels))
    assert torch.equal(found["overlaps"], overlaps(logits.argmax(1), labels, 3))
    expected = agreement(found["overlaps"])
    assert tested.whole == ("overlaps",) and tested.summarize({"overlaps": found["overlaps"]}) == {
        "mean IoU": expected.mean_iou, "pixel accuracy": expected.pixel_accuracy
    }  # fmt: skip


def test_pictures_have_the_colours_of_the_classes():
    stacked = dataclasses.replace(DATA, channels=4, parts=(Part("rgb", 3, 255.0), Part("depth", 1, 255.0)))
    torch.manual_seed(0)
    tested, examples = build(arguments(), stacked), batch()
    examples["conditioning_image"] = torch.rand(3, 4, 8, 8) * 2 - 1
    pipeline = tested.pipeline({name: network.eval() for name, network in tested.networks.items()})
    assert pipeline.id2label == {0: "sky", 1: "sea", 2: "land"} and pipeline.label_maps.colors == COLORS
    (picture,) = tested.sample_grid(pipeline, examples, torch.Generator()).values()
    assert picture.shape == (3, 3, 8, 32)
    torch.testing.assert_close(picture[:, :, :, :8], (examples["conditioning_image"][:, :3] + 1) / 2)
    target, labels = picture[:, :, :, 24:], examples["target_image"][:, 0]
    for number, color in enumerate([*COLORS, (255, 255, 255)]):
        there = (labels == (255 if number == 3 else number))[:, None].expand(-1, 3, -1, -1)
        expected = torch.tensor(color).view(1, 3, 1, 1).expand_as(target) / 255
        torch.testing.assert_close(target[there], expected[there])


def test_saved_networks_are_trained_on(tmp_path):
    save_run(objective(), tmp_path / "run", "output")
    again = reload(tmp_path / "run", arguments(), DATA)
    assert again.networks["generator"].config.output_head == "logits" and not again.notes
    renamed = dataclasses.replace(MAPS, names=("air", "water", "earth"))
    data = dataclasses.replace(DATA, other=dataclasses.replace(TARGET, label_maps=renamed))
    (note,) = reload(tmp_path / "run", arguments(), data).notes
    assert "sky, sea, land" in note and "air, water, earth" in note
    with refused("the pretrained network makes label maps"):
        reload(tmp_path / "run", arguments(target_kind="image"), dataclasses.replace(DATA, other=DATA))


def test_further_training_takes_the_names_of_the_classes_from_the_model(tmp_path):
    """Where the data have none; a checkpoint tells them, too. Other ones are refused."""
    generator = np.random.default_rng(0)
    for kind, most in (("images", 256), ("labels", 2)):
        (tmp_path / kind).mkdir()
        for number in range(4):
            array = generator.integers(0, most, (8, 8), dtype=np.uint8)
            Image.fromarray(array).save(tmp_path / kind / f"{number}.png")
    fixed = f"--train_data_dir {tmp_path / 'images'} --train_data_dir_b {tmp_path / 'labels'} --target_kind labels "
    fixed += "--adversarial_weight 0 --max_train_steps 1 --checkpointing_steps 1 --train_batch_size 2 --num_threads 1"
    new = f"--width 2 --num_downs 2 --output_dir {tmp_path / 'first'} --label_names land sea"
    train_pix2pix([*fixed.split(), *new.split()])
    for further, place in (("of model", "first"), ("of checkpoint", "first/checkpoint-1")):
        pretrained = ["--pretrained_model_name_or_path", str(tmp_path / place)]
        train_pix2pix([*fixed.split(), *pretrained, "--output_dir", str(tmp_path / further)])
        assert LabelMapPipeline.from_pretrained(tmp_path / further).id2label == {0: "land", 1: "sea"}
        with refused("--label_names cannot be changed with --pretrained.*; the saved model has land sea"):
            train_pix2pix([*fixed.split(), *pretrained, "--output_dir", "no", "--label_names", "sea", "land"])
