"""Pipeline of label maps: classes, probabilities, tiles, palettes, several images as one input, saved and applied."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels import AutoPipeline, LabelMapPipeline, LabelMaps, Pix2PixPipeline, UNetTranslator
from hf_genmodels.apply import apply_pipeline
from hf_genmodels.data import DataArguments, Layout, evaluation_batches, load_split
from hf_genmodels.data.label_maps import default_colors
from hf_genmodels.evaluation import evaluate_pipeline
from hf_genmodels.metrics.depth import depth_errors
from hf_genmodels.metrics.segmentation import agreement, overlaps
from tests.testing_utils.refusals import refused
from tests.testing_utils.translators import shaken

NAMES = {0: "sky", 1: "ground", 2: "sphere", 3: "box", 4: "cone", 5: "wall"}
PARTS = [["rgb", 3, 255.0], ["depth", 1, 65535.0]]
SCENES = DataArguments(
    dataset_name="builtin:polarimetric",
    dataset_config_name="32",
    conditioning_image_column="image",
    target_image_column="labels",
)


def tiny(channels=3, **options) -> LabelMapPipeline:
    torch.manual_seed(0)
    network = UNetTranslator(channels, 6, 8, width=2, num_downs=2, norm="none", dropout=0.0, output_head="logits")
    pipeline = LabelMapPipeline(shaken(network), NAMES, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def images(channels=3, height=8, width=12, count=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, channels, height, width), generator=generator) / 255


def test_the_class_of_a_pixel_is_the_most_probable_one():
    pipeline, sample = tiny(), images()
    with torch.no_grad():
        expected = pipeline.generator(sample * 2 - 1).sample.softmax(1)
    made = pipeline(sample, return_probabilities=True, output_type="pt")
    torch.testing.assert_close(made.probabilities, expected)
    assert torch.equal(made.images, expected.argmax(1)) and made.images.unique().numel() > 2
    arrays = pipeline(sample, return_probabilities=True, output_type="np", max_batch_size=1)
    assert np.array_equal(arrays.images, made.images.numpy())
    assert np.allclose(arrays.probabilities, expected.movedim(1, 3).numpy(), atol=1e-6)
    assert "probabilities" not in pipeline(sample) and len(pipeline(sample, return_dict=False)) == 1
    with refused("output_type must be 'pil', 'np' or 'pt', got 'latent'"):
        pipeline(sample, output_type="latent")


def test_pictures_have_palettes(tmp_path):
    pipeline, sample = tiny(), images()
    labels = pipeline(sample, output_type="np").images
    for picture, expected in zip(pipeline(sample).images, labels, strict=True):
        picture.save(tmp_path / "labels.png")
        with Image.open(tmp_path / "labels.png") as read:
            assert read.mode == "P" and np.array_equal(np.asarray(read), expected)
            colors = np.asarray(read.convert("RGB"))
        assert np.array_equal(colors, np.asarray(default_colors(6), np.uint8)[expected])


def test_tiles_blend_probabilities():
    pipeline, sample = tiny(), images(height=8, width=8)
    whole = pipeline(sample, output_type="pt", return_probabilities=True)
    tile = pipeline(sample, tile_size=8, output_type="pt", return_probabilities=True)
    torch.testing.assert_close(tile.probabilities, whole.probabilities)
    large = images(height=13, width=19)
    made = pipeline(large, tile_size=8, tile_overlap=4, output_type="pt", return_probabilities=True)
    torch.testing.assert_close(made.probabilities.sum(1), torch.ones(2, 13, 19))
    first = pipeline(large[..., :8, :8], output_type="pt", return_probabilities=True).probabilities
    torch.testing.assert_close(made.probabilities[..., :1, :4], first[..., :1, :4])


def test_saved_pipelines_know_names_colours_and_parts(tmp_path):
    colors = [[0, 0, i] for i in range(6)]
    tiny(4, label_colors=colors, ignore_index=9, source_parts=PARTS).save_pretrained(tmp_path)
    loaded = AutoPipeline.from_pretrained(tmp_path)
    assert isinstance(loaded, LabelMapPipeline) and loaded.id2label == NAMES
    assert loaded.label_maps == LabelMaps(tuple(NAMES.values()), 9, tuple(map(tuple, colors)))
    assert loaded.config.source_parts == PARTS and loaded.sample_shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id2label": {0: "a"}}, "id2label must name the 6 classes"),
        (
            {"label_colors": [[0, 0, 0]]},
            "label_colors must be red, green and blue, 0 to 255, of 6 classes",
        ),
        ({"label_colors": [[0, 0, 300]] * 6}, "label_colors must be red, green and blue"),
        ({"source_parts": PARTS}, "source_parts have 4 channels together, and the network takes 3"),
    ],
)
def test_configurations_that_do_not_fit(options, message):
    with refused(message):
        LabelMapPipeline(tiny().generator, **{"id2label": NAMES} | options)


# several images as one input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LabelMapPipeline, Pix2PixPipeline])
def test_inputs_of_several_images(kind):
    torch.manual_seed(0)
    head = "logits" if kind is LabelMapPipeline else "tanh"
    network = shaken(UNetTranslator(4, 2, 8, width=2, num_downs=2, norm="none", dropout=0.0, output_head=head))
    pipeline = kind(network, source_parts=PARTS)
    rgb = (images()[0].movedim(0, 2) * 255).round().byte().numpy()
    depth = np.random.default_rng(0).integers(0, 65536, (8, 12), dtype=np.uint16)
    stacked = np.concatenate([rgb / 255, depth[:, :, None] / 65535], 2).astype(np.float32)
    expected = pipeline(stacked, output_type="np").images
    pictures = Image.fromarray(rgb), Image.fromarray(depth)
    parts = {"rgb": pictures[0], "depth": pictures[1]}
    for given in ({"depth": depth, "rgb": rgb}, parts, [parts], list(pictures)):
        np.testing.assert_allclose(pipeline(given, output_type="np").images, expected, atol=1e-5)
    twice = pipeline([parts, parts], output_type="np").images
    np.testing.assert_allclose(twice, np.concatenate([expected, expected]), atol=1e-5)
    for wrong, message in [
        (pictures[0], "this model takes 2 images at once: give a dict with rgb, depth"),
        ({"rgb": rgb}, "image has rgb, and this model takes rgb, depth"),
        ({"rgb": rgb, "depth": depth[:4]}, "image: the parts rgb and depth do not fit: 1 of 8x12 and 1 of 4x12"),
    ]:
        with refused(message):
            pipeline(wrong)


# measured and applied ------------------------------------------------------------------------------------------------


def evaluate(pipeline, data, *metrics):
    settings = {"split": "test", "num_samples": 20, "batch_size": 8, "extractor": None, "seed": 0, "progress": False}
    return {each["name"]: each["value"] for each in evaluate_pipeline(pipeline, data, metrics=metrics, **settings)}


def test_label_maps_are_measured():
    pipeline = tiny()
    found = evaluate(pipeline, SCENES, "miou")
    layout = Layout("pair", label_maps=LabelMaps(tuple(NAMES.values())))
    batch = next(evaluation_batches(load_split(SCENES, "test", layout), batch_size=20))
    made = pipeline((batch["conditioning_image"] + 1) / 2, output_type="pt").images
    expected = agreement(overlaps(made, batch["target_image"][:, 0], 6))
    assert found["mean IoU"] == pytest.approx(expected.mean_iou)
    assert found["mean Dice"] == pytest.approx(expected.mean_dice)
    assert found["pixel accuracy"] == pytest.approx(expected.pixel_accuracy)
    for number, name in NAMES.items():
        assert found.get(f"IoU {name}", np.nan) == pytest.approx(expected.iou[number].item(), nan_ok=True)
        assert found.get(f"Dice {name}", np.nan) == pytest.approx(expected.dice[number].item(), nan_ok=True)
    with refused("fid needs samples, and LabelMapPipeline cannot sample by itself"):
        evaluate(pipeline, SCENES, "fid")


def test_depths_are_measured():
    torch.manual_seed(0)
    pipeline = Pix2PixPipeline(shaken(UNetTranslator(3, 1, 8, width=2, num_downs=2)), value_scale=1.0)
    data = DataArguments(**{**vars(SCENES), "target_image_column": "depth"})
    batch = next(evaluation_batches(load_split(data, "test", Layout("pair")), batch_size=20))
    source, target = ((batch[name] + 1) / 2 for name in ("conditioning_image", "target_image"))
    made = pipeline(source, output_type="pt").images
    expected = {name: values.mean().item() for name, values in depth_errors(target, made).items()}
    assert evaluate(pipeline, data, "depth") == pytest.approx(expected, rel=1e-4)
    data.target_image_column = "image"
    with refused("depth is of targets of one channel, these have 3"):
        evaluate(Pix2PixPipeline(shaken(UNetTranslator(3, 3, 8, width=2, num_downs=2))), data, "depth")


def test_applied_label_maps_are_a_data_set(tmp_path):
    """What `apply` writes is read back as targets with the same numbers."""
    folder, pipeline, sample = tmp_path / "images", tiny(), images()
    folder.mkdir()
    for number, image in enumerate(sample):
        Image.fromarray((image.movedim(0, 2) * 255).round().byte().numpy()).save(folder / f"{number}.png")
    apply_pipeline(pipeline, folder, tmp_path / "labels", progress=False)
    data = DataArguments(train_data_dir=str(folder), train_data_dir_b=str(tmp_path / "labels"))
    layout = Layout("pair", label_maps=LabelMaps(tuple(NAMES.values())))
    dataset = load_split(data, "train", layout)
    (batch,) = evaluation_batches(dataset, batch_size=2)
    assert torch.equal(batch["target_image"][:, 0], pipeline(sample, output_type="pt").images)
    assert dataset.second.spec.label_maps.colors == default_colors(6)


def test_several_images_are_applied_by_their_folders(tmp_path):
    folder, pipeline = tmp_path / "scenes", tiny(4, source_parts=PARTS)
    rgb = (images()[0].movedim(0, 2) * 255).round().byte().numpy()
    depth = np.random.default_rng(0).integers(0, 65536, (8, 12), dtype=np.uint16)
    (folder / "rgb").mkdir(parents=True)
    Image.fromarray(rgb).save(folder / "rgb" / "a.png")
    with refused(r"must hold a folder for each \(rgb, depth\) with files of equal names, and depth holds no images"):
        apply_pipeline(pipeline, folder, tmp_path / "out", progress=False)
    (folder / "depth").mkdir()
    np.save(folder / "depth" / "a.npy", depth)
    assert apply_pipeline(pipeline, folder, tmp_path / "out", progress=False).written == 1
    with Image.open(tmp_path / "out" / "a.png") as made:
        expected = pipeline({"rgb": rgb, "depth": depth}, output_type="np").images[0]
        assert made.mode == "P" and np.array_equal(np.asarray(made), expected)
    Image.fromarray(rgb).save(folder / "rgb" / "b.png")
    with refused("b is not in both rgb and depth"):
        apply_pipeline(pipeline, folder, tmp_path / "other", progress=False)
