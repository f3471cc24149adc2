"""Several columns as the channels of an input: kinds and units may differ, sizes may not."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from hf_genmodels.data import Layout, TrainingBatches, columns, evaluation_batches, load_data, load_split
from hf_genmodels.data.spec import MIRRORED_ANGLES, Part
from tests.testing_utils.refusals import refused

PAIR = Layout("pair")


def files(depth_type=np.uint16, shape=(6, 8)):
    random, lines, written = np.random.default_rng(0), [], {}
    for i in range(3):
        written[f"{i}.png"] = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        written[f"{i}_depth.png"] = random.integers(0, np.iinfo(depth_type).max, shape, dtype=depth_type)
        lines.append({"file_name": f"{i}.png", "depth_file_name": f"{i}_depth.png"})
    return {**written, "metadata.jsonl": "\n".join(map(json.dumps, lines))}


def options(root):
    return {
        "train_data_dir": str(root),
        "conditioning_image_columns": ["image", "depth"],
        "target_image_column": "depth",
    }


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("depth_type", [np.uint8, np.uint16])
def test_channels_of_several_columns(folder, arguments, monkeypatch, depth_type, in_memory):
    if not in_memory:
        monkeypatch.setattr(columns, "IN_MEMORY_BYTES", 0)
    content = files(depth_type)
    data = load_data(arguments(**options(folder(content))), 0, PAIR)
    white = float(np.iinfo(depth_type).max)
    assert data.spec.parts == (Part("image", 3, 255.0), Part("depth", 1, white))
    assert data.spec.value_scale == (255.0 if depth_type == np.uint8 else 1.0)
    (batch,) = evaluation_batches(data.train, batch_size=3)
    for i in range(3):
        rgb = torch.from_numpy(content[f"{i}.png"]).movedim(2, 0) / 255
        depth = torch.from_numpy(content[f"{i}_depth.png"].astype(np.float32))[None] / white
        torch.testing.assert_close((batch["conditioning_image"][i] + 1) / 2, torch.cat([rgb, depth]))
        torch.testing.assert_close(batch["conditioning_image"][i, 3:], batch["target_image"][i])


def test_crops_and_flips_are_those_of_the_target(folder, arguments):
    args = arguments(**options(folder(files())), crop_size=4, random_flip=True)
    batch = next(TrainingBatches(load_data(args, 0, PAIR).train, batch_size=3).start(0))
    torch.testing.assert_close(batch["conditioning_image"][:, 3:], batch["target_image"])


def test_sizes_must_be_equal(folder, arguments):
    with refused(
        ".*".join(map(re.escape, ("is stacked from RGB of 6x8 and 16-bit grey (I;16) of 3x4", "must be of one size")))
    ):
        load_data(arguments(**options(folder(files(shape=(3, 4))))), 0, PAIR)


def test_one_column_is_no_stack(folder, arguments):
    args = arguments(**options(folder(files())) | {"conditioning_image_columns": ["image"]})
    with refused(
        re.escape("--conditioning_image_columns names fewer than two columns: give --conditioning_image_column")
    ):
        load_data(args, 0, PAIR)
    args.conditioning_image_columns = ["image", "height"]
    with refused(re.escape("has no column 'height': choose --conditioning_image_columns from")):
        load_data(args, 0, PAIR)


def test_columns_of_a_builtin_set(arguments):
    args = arguments(dataset_name="builtin:polarimetric", dataset_config_name="32", target_image_column="depth")
    args.conditioning_image_columns = ["image", "target_image"]
    dataset = load_split(args, "test", PAIR)
    assert dataset.spec.channels == 7
    assert dataset.first.spec.mirrored_channels == (0, 1, 2, *(3 + channel for channel in MIRRORED_ANGLES))
    assert dataset.spec.parts == (Part("image", 3, 1.0), Part("target_image", 4, 1.0))
