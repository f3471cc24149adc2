"""Mosaics made by hand, and the three real captures where `data_root` has them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels.data import Layout, TrainingBatches, evaluation_batches, load_data
from hf_genmodels.data.mosaic import (
    inadmissibility,
    join_mosaic,
    load_mosaic,
    patches,
    saturated_share,
    split_mosaic,
    usable,
    write_patches,
)
from hf_genmodels.data.spec import MIRRORED_ANGLES
from hf_genmodels.errors import UserError
from hf_genmodels.losses import polarimetry
from tests.testing_utils.refusals import refused

# Median DoLP and mean |I0 + I90 - I45 - I135| / mean S0, over unsaturated pixels; share of saturated pixels.
SCENES = {"camera": (0.03, 0.023, 0.013), "fruits": (0.08, 0.022, 0.0), "polarizer": (0.07, 0.039, 0.146)}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_split_and_join_by_layout(dtype):
    raw = np.random.default_rng(0).integers(np.iinfo(dtype).max, size=(6, 8), endpoint=True).astype(dtype)
    split = split_mosaic(raw)
    assert split.shape == (4, 3, 4) and split.dtype == dtype
    for row in range(3):
        for column in range(4):
            i90, i45, i135, i0 = raw[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten()
            assert split[:, row, column].tolist() == [i0, i45, i90, i135]
    assert np.array_equal(join_mosaic(split), raw) and join_mosaic(split).dtype == dtype
    other = split_mosaic(raw, ((0, 135), (45, 90)))
    assert np.array_equal(other[1], raw[1::2, ::2]) and np.array_equal(other[0], raw[::2, ::2])
    assert np.array_equal(join_mosaic(other, ((0, 135), (45, 90))), raw)


def test_inadmissible_and_saturated_captures_are_refused():
    good = np.full((4, 10, 10), 100, dtype=np.uint8)
    assert usable(good, saturation=255) and inadmissibility(good) == 0
    # S = (0, 0, 3): a degree of 3 / 1e-5 in one pixel.
    dark = good.copy()
    dark[:, 2, 3] = (0, 3, 0, 0)
    assert inadmissibility(dark) == pytest.approx((3 / 1e-5 - 1) / 100)
    assert not usable(dark, saturation=255) and usable(dark, saturation=255, threshold=3000)
    # Two pixels with S = (10, 6, 20) and (8, 0, 12), among admissible ones.
    mixed = good.copy()
    mixed[:, 0, 0], mixed[:, 9, 9] = (8, 21, 2, 1), (4, 12, 4, 0)
    expected = math.hypot(math.hypot(6, 20) / 10.00001 - 1, 12 / 8.00001 - 1) / 100
    assert inadmissibility(mixed) == pytest.approx(expected) and usable(mixed, saturation=255)
    bright = good.copy()
    bright[2, 0, :2] = bright[3, 0, 1:3] = 255
    assert saturated_share(bright, 255) == 0.03
    assert not usable(bright, saturation=255)
    assert usable(bright, saturation=255, max_saturated=0.03) and usable(bright, saturation=256)


def test_patches_are_cut_row_by_row():
    image = np.arange(4 * 5 * 7, dtype=np.uint16).reshape(4, 5, 7)
    cut = patches(image, 3, 2)
    places = [(row, column) for row in (0, 2) for column in (0, 2, 4)]
    assert cut.shape == (6, 4, 3, 3) and cut.dtype == np.uint16
    for patch, (row, column) in zip(cut, places, strict=True):
        assert np.array_equal(patch, image[:, row : row + 3, column : column + 3])
    assert patches(image, 5, 9).shape == (1, 4, 5, 5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: split_mosaic(np.zeros((5, 4), np.uint8)), ["even", "(5, 4)"]),
        (lambda: split_mosaic(np.zeros((4, 4, 3), np.uint8)), ["(4, 4, 3)"]),
        (lambda: split_mosaic(np.zeros((4, 4), np.float32)), ["uint8 or uint16", "float32"]),
        (lambda: split_mosaic(np.zeros((4, 4), np.uint8), ((0, 45), (90, 90))), ["(90, 90)", "once"]),
        (lambda: join_mosaic(np.zeros((3, 4, 4), np.uint8)), ["(3, 4, 4)", "(4, height, width)"]),
        (lambda: patches(np.zeros((4, 8, 6), np.uint8), 7, 1), ["7x7", "(4, 8, 6)"]),
        (lambda: patches(np.zeros((4, 8, 6), np.uint8), 4, 0), ["every 0"]),
    ],
)
def test_mistakes_are_one_line(call, words):
    with refused() as caught:
        call()
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("ending", ["png", "tif", "npy"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mosaics_are_read_without_loss(folder, random, ending, dtype):
    raw = random.integers(np.iinfo(dtype).max, size=(6, 8), endpoint=True).astype(dtype)
    found = load_mosaic(folder({f"raw.{ending}": raw}) / f"raw.{ending}")
    assert found.dtype == dtype and np.array_equal(found, split_mosaic(raw))
    layout = ((0, 135), (45, 90))
    assert np.array_equal(load_mosaic(str(folder({}) / f"raw.{ending}"), layout), split_mosaic(raw, layout))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["there is no such file"]),
        ("text", ["is no image"]),
        (np.zeros((4, 4, 3), np.uint8), ["is RGB", "8 or 16-bit grey"]),
        (np.zeros((5, 4), np.uint8), ["both even", "(5, 4)"]),
        (np.zeros((4, 4), np.uint8), ["8x8 pixels every 1 cannot be cut"]),
    ],
)
def test_captures_that_cannot_be_used_are_named(folder, content, words):
    root = folder({} if content is None else {"raw.png": content})
    with pytest.raises(UserError) as caught:
        write_patches([root / "raw.png"], root / "out", size=8, stride=1, saturation=255)
    message = str(caught.value)
    assert message.startswith(str(root / "raw.png")) and "\n" not in message and all(word in message for word in words)
    assert not (root / "out").exists()


@pytest.fixture
def captures(folder, random):
    """Two captures, each in a folder of its own; 11 x 7 and 8 x 7 pixels of each angle, one saturated, one dark."""
    one, two = (random.integers(40_000, 60_000, (4, 7, width), dtype=np.uint16) for width in (11, 8))
    one[2, 0, 0] = 65535
    two[:, 6, 7] = (0, 3, 0, 0)
    root = folder({"one/raw.png": join_mosaic(one), "two/raw.png": join_mosaic(two)})
    return root, {"one": one, "two": two}


def test_patches_become_a_data_set_of_pairs(captures, arguments):
    root, images = captures
    paths = [root / name / "raw.png" for name in images]
    count = write_patches(paths, root / "patches", size=4, stride=3, saturation=65535)
    places = {
        "one": [(row, column) for row in (0, 3) for column in (0, 3, 6)],
        "two": [(0, 0), (0, 3), (3, 0), (3, 3)],
    }
    kept = [(name, *place) for name in places for place in places[name]]
    kept.remove(("one", 0, 0))  # 1 of 16 pixels saturated
    assert count == len(kept) == 9
    names = [f"{name}-raw_{row:04}_{column:04}" for name, row, column in kept]
    for side in ("angles", "intensity"):
        assert sorted(path.stem for path in (root / "patches" / side).iterdir()) == sorted(names)

    args = arguments(train_data_dir=str(root / "patches"), random_flip=True)
    data = load_data(args, 0, Layout("pair", mirrored_channels=MIRRORED_ANGLES))
    assert data.spec.shape == (1, 4, 4) and data.spec.other.shape == (4, 4, 4) and data.spec.class_names is None
    batch = next(evaluation_batches(data.train, batch_size=9))
    expected = np.stack([images[name][:, row : row + 4, column : column + 4] for name, row, column in kept])
    stored = torch.from_numpy(expected / 65535 * 2 - 1).float()
    torch.testing.assert_close(batch["target_image"], stored, rtol=0, atol=3e-7)
    torch.testing.assert_close(batch["conditioning_image"], stored.mean(1, keepdim=True), rtol=0, atol=5e-7)
    drawn = next(TrainingBatches(data.train, batch_size=9).start(0))
    whole = stored[drawn["index"]]
    turned = whole.flip(-1)[:, [0, 3, 2, 1]]
    plain, mirrored = ((drawn["target_image"] - images).abs().amax((1, 2, 3)) < 1e-6 for images in (whole, turned))
    assert (plain ^ mirrored).all() and plain.any() and mirrored.any()

    # Files of the same name in the two folders are pairs too.
    both = {
        f"train_data_dir{end}": str(root / "patches" / side) for end, side in (("", "intensity"), ("_b", "angles"))
    }
    assert len(load_data(arguments(**both), 0, Layout("pair")).train) == 9


def test_patches_that_are_not_usable_are_left_out(captures):
    root, images = captures
    paths = [root / name / "raw.png" for name in images]
    # The dark pixel lies in the last patch of the second capture.
    options = {"size": 4, "stride": 1, "saturation": 65535}
    count = write_patches(paths, root / "all", max_saturated=1, threshold=math.inf, **options)
    assert count == 4 * 8 + 4 * 5
    assert write_patches(paths, root / "lit", max_saturated=1, **options) == count - 1
    assert not (root / "lit" / "angles" / "two-raw_0003_0004.npy").exists()
    other = ((0, 45), (135, 90))
    assert write_patches(paths[:1], root / "raw", layout=other, **options) == 4 * 8 - 1
    found = np.load(root / "raw" / "angles" / "raw_0003_0007.npy")
    assert np.array_equal(found.transpose(2, 0, 1), images["one"][[2, 1, 0, 3], 3:7, 7:11])
    with pytest.raises(UserError, match="none of the 52 patches of 2 captures is usable"):
        write_patches(paths, root / "none", size=4, stride=1, saturation=40_000)
    assert not (root / "none").exists()


def test_folders_and_names_of_patches(captures):
    root, _ = captures
    options = {"size": 4, "stride": 1, "saturation": 65535}
    path = root / "one" / "raw.png"
    for taken in (root, path):
        with pytest.raises(UserError, match="is not an empty folder"):
            write_patches([path], taken, **options)
    with pytest.raises(UserError, match="would have the same names"):
        write_patches([path, path], root / "out", **options)
    with pytest.raises(UserError, match="no captures"):
        write_patches([], root / "out", **options)
    with pytest.raises(UserError, match="every 0"):
        write_patches([path], root / "out", **{**options, "stride": 0})


@pytest.mark.parametrize("scene", SCENES)
def test_real_captures(data_root, scene):
    folder = data_root / "polarimetric" / scene
    raw = np.asarray(Image.open(folder / "raw_mosaic.png"))
    split = split_mosaic(raw)
    assert np.array_equal(load_mosaic(folder / "raw_mosaic.png"), split)
    assert np.array_equal(join_mosaic(split), raw)
    for image, name in zip(split, ("i000", "i045", "i090", "i135"), strict=True):
        assert np.array_equal(image, np.asarray(Image.open(folder / f"{name}.png")))

    i0, i45, i90, i135 = split.astype(np.float64)
    s0, s1, s2 = i0 + i90, i0 - i90, i45 - i135
    y = torch.from_numpy(split.astype(np.float64))[None]
    stokes = polarimetry.stokes_vector(y, polarimetry.left_inverse(polarimetry.calibration_matrix()))
    np.testing.assert_allclose(stokes[0], np.stack([s0, s1, s2]), atol=1e-6)
    lit = s0 > 0
    dolp = np.sqrt(s1**2 + s2**2)[lit] / s0[lit]
    np.testing.assert_allclose(polarimetry.degree_of_linear_polarization(stokes)[0, 0][lit], dolp, atol=1e-6)
    aolp = np.angle(s1 + 1j * s2) / 2
    np.testing.assert_allclose(polarimetry.angle_of_linear_polarization(stokes)[0, 0], aolp, atol=1e-6)

    median, residual, saturated = SCENES[scene]
    unsaturated = (split < 255).all(axis=0)
    assert np.median(dolp[unsaturated[lit]]) == pytest.approx(median, abs=0.005)
    unbalanced = np.abs(i0 + i90 - i45 - i135)[unsaturated].mean() / s0[unsaturated].mean()
    assert unbalanced == pytest.approx(residual, abs=0.0005)
    assert saturated_share(split, 255) == pytest.approx(saturated, abs=0.0005)
    assert usable(split, saturation=255, threshold=math.inf) == (scene == "fruits")
