"""Mosaics made by hand, and the three real captures where `data_root` has them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels.data import Layout, TrainingBatches, evaluation_batches, load_data
from hf_genmodels.data.mosaic import (
    area_averaged,
    draw_by_energy,
    gradient_energy,
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


def test_averages_are_of_intensities_so_that_stokes_vectors_are_averaged_too(random):
    image = random.integers(255, size=(4, 7, 9), endpoint=True).astype(np.uint8)
    found = area_averaged(image, 3)
    assert found.shape == (4, 2, 3) and found.dtype == np.float64
    for angle in range(4):
        for row in range(2):
            for column in range(3):
                block = [
                    int(image[angle, 3 * row + i, 3 * column + j]) for i in range(3) for j in range(3)
                ]  # fmt: skip
                assert found[angle, row, column] == pytest.approx(sum(block) / 9)
    inverse = polarimetry.left_inverse(polarimetry.calibration_matrix())
    fine, coarse = (
        polarimetry.stokes_vector(torch.from_numpy(y)[None], inverse) for y in (image.astype(float), found)
    )
    means = torch.nn.functional.avg_pool2d(fine, 3)
    torch.testing.assert_close(coarse, means)
    assert np.array_equal(area_averaged(image, 1), image)
    for factor in (0, 8):
        with refused() as caught:
            area_averaged(image, factor)
        assert f"no square of {factor}x{factor}" in str(caught.value)


def test_energy_is_of_the_gradients_of_intensity(random):
    image = random.integers(255, size=(4, 3, 4)).astype(np.uint8)
    mean = image.astype(float).mean(0)
    down = [(mean[i + 1, j] - mean[i, j]) ** 2 for i in range(2) for j in range(4)]
    across = [(mean[i, j + 1] - mean[i, j]) ** 2 for i in range(3) for j in range(3)]
    assert gradient_energy(image) == pytest.approx(sum(down) / 8 + sum(across) / 9)
    # Polarised alike everywhere, however much: nothing goes on.
    assert gradient_energy(np.broadcast_to(np.array([9, 5, 1, 5])[:, None, None], (4, 3, 3))) == 0


def test_draws_are_in_proportion_to_energy(random):
    energies = [1.0, 0.0, 4.0, 2.0, 0.0, 1.0]
    drawn = np.array([draw_by_energy(energies, 1, random)[0] for _ in range(8000)])
    assert np.bincount(drawn, minlength=6) / 8000 == pytest.approx(np.array(energies) / 8, abs=0.02)
    # The second of two, given that the first is number 2 (4 of 8): the others' shares of the 4 that are left.
    twice = [draw_by_energy(energies, 2, random) for _ in range(4000)]
    assert all(len(set(pair)) == 2 and pair[0] < pair[1] for pair in twice)
    assert np.mean([set(pair) == {2, 3} for pair in twice]) == pytest.approx(1 / 2 * 2 / 4 + 2 / 8 * 4 / 6, abs=0.03)
    assert draw_by_energy(energies, 5, random).tolist() == [0, 1, 2, 3, 5]
    assert draw_by_energy(energies, 9, random).tolist() == list(range(6)) and not len(draw_by_energy([], 3, random))


def test_patches_of_several_scales_are_averaged_and_keep_out_what_is_saturated(captures, arguments):
    root, images = captures
    paths = [root / name / "raw.png" for name in images]
    count = write_patches(paths, root / "patches", size=2, stride=1, saturation=65535, scales=[1, 3])
    # At scale 3 squares of 6x6 every 3 pixels: one row, columns 0 and 3, then 0. One patch of the first capture at
    # each scale has the saturated pixel, one small patch of the second the dark one.
    assert count == (6 * 10 - 1) + (6 * 7 - 1) + (2 - 1) + 1
    fine = np.load(root / "patches" / "angles" / "one-raw_0004_0007.npy")
    assert fine.dtype == np.float32
    np.testing.assert_allclose(fine.transpose(2, 0, 1), images["one"][:, 4:6, 7:9] / 65535, rtol=1e-6)
    assert not (root / "patches" / "angles" / "one-raw_0000_0000_x3.npy").exists()
    coarse = np.load(root / "patches" / "angles" / "one-raw_0000_0003_x3.npy")
    expected = area_averaged(images["one"][:, :6, 3:9], 3) / 65535
    assert coarse.dtype == np.float32
    np.testing.assert_allclose(coarse.transpose(2, 0, 1), expected, rtol=1e-6)
    grey = np.load(root / "patches" / "intensity" / "one-raw_0000_0003_x3.npy")
    np.testing.assert_allclose(grey, expected.mean(0), rtol=1e-6)
    data = load_data(arguments(train_data_dir=str(root / "patches")), 0, Layout("domains", MIRRORED_ANGLES))
    assert len(data.train) == count and data.spec.other.shape == (4, 2, 2)


def test_drawn_patches_depend_on_the_seed_alone(captures):
    root, images = captures
    paths = [root / name / "raw.png" for name in images]

    def names(folder, **options):
        options = {"size": 2, "stride": 1, "saturation": 65535, "scales": (1, 2), "number": 5, **options}
        assert write_patches(paths, root / folder, **options) == sum(1 for _ in (root / folder / "angles").iterdir())
        return sorted(path.stem for path in (root / folder / "angles").iterdir())

    drawn = names("a")
    assert [sum(name.startswith(one) and name.endswith("_x2") == coarse for name in drawn)
            for one in ("one", "two") for coarse in (False, True)] == [5, 5, 5, 5]  # fmt: skip
    assert drawn == names("b") and drawn != names("c", seed=1)
    # The saturated pixel of the first capture is its steepest place, and is left out before the draw.
    assert "one-raw_0000_0000" not in names("d", number=1000)


@pytest.mark.parametrize("options", [{"scales": ()}, {"scales": (1, 1)}, {"scales": (0, 1)}, {"number": 0}])
def test_scales_and_numbers_that_mean_nothing_are_named(captures, options):
    root, _ = captures
    with pytest.raises(UserError, match="give different scales from 1 on, and a number of at least 1"):
        write_patches([root / "one" / "raw.png"], root / "out", size=2, stride=1, saturation=65535, **options)
    assert not (root / "out").exists()


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
