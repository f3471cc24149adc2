"""`builtin:edges` and `builtin:polarimetric`: sets whose examples are several images."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from hf_genmodels.data.builtin import edges, load_builtin
from hf_genmodels.data.builtin.polarimetric_scenes import KINDS, Body, Material, Scene, draw_scene, fresnel, render
from tests.testing_utils.refusals import refused

WHITE = np.ones(3)
CHALK = Material(0.8 * WHITE, 0.0, 1.5)
OVERCAST = {"horizon": 0.8 * WHITE, "zenith": 0.8 * WHITE}


@pytest.fixture(scope="module")
def scenes():
    generator = np.random.default_rng(0)
    return [draw_scene(generator, kinds) for kinds in [("sphere", "box")] * 30 + [("cone",)] * 10]


def stokes_of(angles):
    i0, i45, i90, i135 = angles.astype(np.float64)
    return np.stack([i0 + i90, i0 - i90, i45 - i135])


def test_edges_are_pairs_of_fixed_images():
    train, test = load_builtin("builtin:edges", None, "train"), load_builtin("builtin:edges", None, "test")
    for split, number in ((train, 2000), (test, 200)):
        assert split.pixels.shape == (number, 3, 64, 64) and split.pixels.dtype == np.uint8
        assert split.columns["target_image"] is split.pixels and split.value_scale == 255
        outlines = split.columns["conditioning_image"]
        assert outlines.shape == (number, 1, 64, 64) and set(np.unique(outlines)) == {0, 255}
    assert np.array_equal(test.pixels, load_builtin("builtin:edges", None, "test").pixels)
    assert len({image.tobytes() for split in (train, test) for image in split.columns["conditioning_image"]}) == 2200


def test_outlines_lie_where_colours_change_and_nowhere_else():
    split = load_builtin("builtin:edges", None, "test")
    picture = split.pixels.astype(int)
    change = np.zeros((200, 64, 64), dtype=bool)
    # Shading changes by less than this from row to row.
    down = np.abs(np.diff(picture, axis=2)).max(axis=1) > 12
    right = np.abs(np.diff(picture, axis=3)).max(axis=1) > 12
    change[:, 1:] |= down
    change[:, :-1] |= down
    change[:, :, 1:] |= right
    change[:, :, :-1] |= right
    outlines = split.columns["conditioning_image"][:, 0] > 0
    # Shapes of one kind and size have one colour.
    assert (outlines & ~change).sum() / outlines.sum() < 0.02
    # Of the two pixels at a change one belongs to the outline.
    near = outlines.copy()
    near[:, 1:] |= outlines[:, :-1]
    near[:, :-1] |= outlines[:, 1:]
    near[:, :, 1:] |= outlines[:, :, :-1]
    near[:, :, :-1] |= outlines[:, :, 1:]
    assert not (change & ~near).any()


@pytest.mark.parametrize(
    ("kind", "area"),
    [("ellipse", 0.7 * math.pi), ("rectangle", 4 * 0.7 / 1.49), ("triangle", 1.299), ("hexagon", 2.598)],
)
def test_shapes_have_the_area_of_their_kind(kind, area):
    absent = np.zeros((1, 3))
    shapes = {
        "present": np.array([[False, False, False, True]]),
        "kind": np.array([[0, 0, 0, edges.KINDS.index(kind)]]),
        **{
            name: np.concatenate([absent, [[value]]], axis=1)
            for name, value in (("radius", 18.0), ("aspect", 0.7), ("angle", 0.4), ("x", 31.0), ("y", 33.0))
        },
    }
    pictures, shown = edges._paint(shapes)
    assert (shown == 4).sum() == pytest.approx(area * 18**2, rel=0.03)
    rows, columns = np.nonzero(shown[0])
    assert np.hypot(columns + 0.5 - 31, rows + 0.5 - 33).max() <= 18
    middle = edges.COLOURS[edges.KINDS.index(kind), 1] * (1 - edges.SHADE / 2)
    assert pictures[0, 33, 31] == pytest.approx(middle, abs=0.01)


def test_rendered_images_are_admissible_in_range_and_agree(scenes):
    for scene in scenes:
        images = render(scene, 32)
        assert {name: image.shape[0] for name, image in images.items()} == {
            "rgb": 3, "angles": 4, "intensity": 1, "depth": 1, "masks": 4, "labels": 1
        }  # fmt: skip
        assert {name: image.dtype for name, image in images.items() if image.dtype != np.float32} == {
            "masks": np.uint8, "labels": np.uint8
        }  # fmt: skip
        labels = images.pop("labels")
        assert (images["depth"][labels == KINDS.index("sky")] == 1).all()
        assert {KINDS[label] for label in np.unique(labels)} <= {"sky", "ground", *(b.kind for b in scene.bodies)}
        for image in images.values():
            assert image.min() >= 0 and image.max() <= 1
        i0, i45, i90, i135 = images["angles"].astype(np.float64)
        assert np.abs(i0 + i90 - i45 - i135).max() < 1e-6
        s0, s1, s2 = stokes_of(images["angles"])
        assert (s1**2 + s2**2 - s0**2).max() < 1e-6 and s0.min() > 0
        np.testing.assert_allclose(images["angles"].mean(0), images["intensity"][0], atol=1e-6)
        np.testing.assert_allclose(images["rgb"].mean(0), images["intensity"][0], atol=1e-6)


def test_a_mirrored_scene_is_the_mirrored_image_with_two_angles_exchanged(scenes):
    order = load_builtin("builtin:polarimetric", "32", "test").mirrored_channels["target_image"]
    tilted = 0
    for scene in scenes:
        one, other = render(scene, 32), render(scene.mirrored(), 32)
        for name in ("rgb", "intensity", "depth", "labels"):
            np.testing.assert_allclose(other[name], one[name][..., ::-1], atol=1e-6)
        np.testing.assert_allclose(other["angles"], one["angles"][list(order)][..., ::-1], atol=1e-6)
        tilted += np.abs(one["angles"][1] - one["angles"][3]).max() > 0.05
    assert tilted > 20


def test_masks_show_kinds_and_gloss_of_what_is_nearest():
    """A matt sphere before a glossy wall on matt ground, and the sky above them."""
    glass = Material(0.1 * WHITE, 0.9, 1.5)
    bodies = (
        Body("wall", 0.0, 12.0, (100.0, 1.0, 0.1), 0.0, glass),
        Body("sphere", 0.0, 4.0, (1.0, 1.0, 1.0), 0.0, CHALK),
    )
    scene = Scene(1.5, CHALK, bodies, np.array([0.0, 1.0, 0.0]), **OVERCAST)
    images = render(scene, 64)
    sphere, box, cone, glossy = images["masks"]
    depth = images["depth"][0] * 20
    assert images["masks"].dtype == np.uint8 and not box.any() and not cone.any()
    assert np.array_equal(glossy == 1, (depth > 11.85) & (depth < 12)) and glossy.any()
    rows, columns = np.nonzero(sphere)
    assert abs(columns.mean() - 31.5) < 0.01 and (depth[sphere == 1] < 4).all() and len(rows) > 300
    assert not (sphere & glossy).any()
    other = render(
        dataclasses.replace(scene, bodies=(dataclasses.replace(bodies[1], kind="cone", material=glass),)), 64
    )
    assert other["masks"][2].any() and np.array_equal(other["masks"][2], other["masks"][3])


def test_fresnel_against_snell():
    index = 1.5
    for degrees in (1.0, 30.0, math.degrees(math.atan(index)), 80.0):
        incidence = math.radians(degrees)
        inside = math.asin(math.sin(incidence) / index)
        found = fresnel(np.cos([incidence]), np.array([index]))
        expected = (
            (math.sin(incidence - inside) / math.sin(incidence + inside)) ** 2,
            (math.tan(incidence - inside) / math.tan(incidence + inside)) ** 2,
        )
        assert [share.item() for share in found] == pytest.approx(expected, abs=1e-12)
    normal = fresnel(np.ones(1), np.array([index]))
    assert [share.item() for share in normal] == pytest.approx([0.04, 0.04])


def black_mirror(**changes):
    """A smooth black floor under a grey sky, and a lamp that is behind everything."""
    black = Material(np.zeros(3), 1.0, 1.5)
    scene = {"height": 1.5, "ground": black, "bodies": (), "lamp": np.array([0.0, -1.0, 0.0]), **OVERCAST}
    return Scene(**{**scene, **changes})


def test_a_black_floor_polarises_horizontally_and_completely_at_brewsters_angle():
    size = 64
    s0, s1, s2 = stokes_of(render(black_mirror(), size)["angles"])
    degree = np.hypot(s1, s2) / s0
    for row, column in [(63, 31), (50, 40), (40, 3)]:
        x = ((2 * column + 1) / size - 1) * 0.7
        y = (1 - (2 * row + 1) / size) * 0.7 - 0.35
        cosine = -y / math.sqrt(1 + x * x + y * y)
        perpendicular, parallel = (share.item() for share in fresnel(np.array([cosine]), np.array([1.5])))
        expected = (perpendicular - parallel) / (perpendicular + parallel)
        assert degree[row, column] == pytest.approx(expected, abs=1e-5)
    # Brewster's angle lies 33.7 degrees below the horizon, in the image; there nothing but horizontal light is left.
    middle = degree[:, 31:33].mean(1)
    steepness = np.degrees(np.arctan(0.35 - (1 - (2 * np.arange(size) + 1) / size) * 0.7))
    assert steepness[middle.argmax()] == pytest.approx(90 - math.degrees(math.atan(1.5)), abs=1.5)
    assert middle.max() > 0.995
    assert s1[40:, 31].min() > 0 and np.abs(s2[40:, 31:33].mean(1)).max() < 1e-6
    assert (degree[:10] == 0).all()


def test_glare_on_a_sphere_is_tangential_and_diffuse_light_radial():
    for albedo, sky, sign in ((0.0, 0.8, 1), (1.0, 0.0, -1)):
        ball = Body("sphere", 0.0, 6.0, (1.0, 1.0, 1.0), 0.0, Material(albedo * WHITE, 1.0, 1.5))
        # The lamp behind the camera brightens a white ball; a black one reflects the sky, and at the sides the chalk.
        ground = Material(sky * WHITE, 0.0, 1.5)
        light = {"lamp": np.array([0.0, 0.0, -1.0]), "horizon": sky * WHITE, "zenith": sky * WHITE}
        scene = black_mirror(bodies=(ball,), height=3.1, ground=ground, **light)
        images = render(scene, 128)
        # The ball is in the middle of the image, with a radius of 15 pixels.
        assert 20 * images["depth"][0, 63, 63] == pytest.approx(5.1, abs=0.1)
        _, s1, _ = stokes_of(images["angles"])
        # On the left and right the plane of incidence is horizontal, above and below it is vertical.
        assert max(sign * s1[63, 52], sign * s1[63, 75]) < -0.003
        assert min(sign * s1[52, 63], sign * s1[75, 63]) > 0.003


def test_depth_of_a_wall_a_ball_and_the_ground():
    wall = Body("box", 0.0, 8.0, (50.0, 20.0, 0.5), 0.0, CHALK)
    ball = Body("sphere", 0.0, 5.0, (1.0, 1.0, 1.0), 0.0, CHALK)
    cone = Body("cone", 0.0, 5.0, (1.0, 1.0, 1.0), 0.0, CHALK)
    images = render(black_mirror(bodies=(wall,), height=1.5, ground=CHALK), 64)
    depth = 20 * images["depth"][0]
    assert depth[:24] == pytest.approx(np.full((24, 64), 7.5))
    heights = (1 - (2 * np.arange(64) + 1) / 64) * 0.7 - 0.35
    assert depth[50:, 10] == pytest.approx(1.5 / -heights[50:])
    assert (images["angles"].max(0) == images["angles"].min(0)).all()
    # Seen at their own height: the ball at its nearest point, the cone at the middle of its height.
    for body, nearest in ((ball, 4.0), (cone, 4.5)):
        height = (1.0 if body is ball else 1.5) + 0.35 * nearest
        depth = 20 * render(black_mirror(bodies=(body,), height=height, ground=CHALK), 64)["depth"][0]
        assert depth[np.abs(heights + 0.35).argsort()[:2]][:, 31:33] == pytest.approx(
            np.full((2, 2), nearest), abs=0.2
        )


def test_the_nearest_body_is_seen(scenes):
    for scene in scenes[:10]:
        every = [render(dataclasses.replace(scene, bodies=(body,)), 32)["depth"] for body in scene.bodies]
        assert np.array_equal(render(scene, 32)["depth"], np.minimum.reduce(every))


def test_polarimetric_splits():
    seen, unseen = (load_builtin("builtin:polarimetric", variant, "test") for variant in ("32", "unseen-32"))
    for split in (seen, unseen):
        assert split.value_scale == 1 and split.pixels is split.columns["conditioning_image"]
        shapes = {name: column.shape for name, column in split.columns.items()}
        assert shapes == {
            "conditioning_image": (200, 3, 32, 32),
            "target_image": (200, 4, 32, 32),
            "intensity": (200, 1, 32, 32),
            "depth": (200, 1, 32, 32),
            "masks": (200, 4, 32, 32),
            "labels": (200, 1, 32, 32),
        }
        s0, s1, s2 = stokes_of(split.columns["target_image"].transpose(1, 0, 2, 3))
        degree, matter = np.hypot(s1, s2) / s0, split.columns["depth"][:, 0] < 1
        # Glare and depolarised matter: both in most images, and everything between.
        assert ((degree > 0.2).mean(axis=(1, 2)) > 0.02).mean() > 0.7
        assert (((degree < 0.05) & matter).mean(axis=(1, 2)) > 0.02).mean() > 0.9
        assert (np.histogram(degree, bins=[0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1])[0] / degree.size).min() > 0.02
    for split, kinds in ((seen, ("sphere", "box")), (unseen, ("cone",))):
        generator = np.random.Generator(np.random.PCG64([0x901A2, 1, kinds == ("cone",)]))
        first = render(draw_scene(generator, kinds), 32)
        assert np.array_equal(split.pixels[0], first["rgb"])
        assert np.array_equal(split.columns["target_image"][0], first["angles"])


def test_the_training_split_is_the_same_for_unseen_bodies(monkeypatch):
    from hf_genmodels.data.builtin import polarimetric

    monkeypatch.setattr(polarimetric, "NUM_IMAGES", {"train": 5, "test": 5})
    polarimetric._render_split.cache_clear()
    plain, unseen = (load_builtin("builtin:polarimetric", variant, "train") for variant in (None, "unseen"))
    test = load_builtin("builtin:polarimetric", "64", "test")
    polarimetric._render_split.cache_clear()
    assert plain.pixels.shape == (5, 3, 64, 64) and np.array_equal(plain.pixels, unseen.pixels)
    assert not np.array_equal(plain.pixels, test.pixels)


@pytest.mark.parametrize(
    ("name", "variant", "words"),
    [
        ("edges", "64", ["builtin:edges", "no variants"]),
        ("polarimetric", "128", ["'128'", "64, 32, unseen, unseen-32"]),
    ],
)
def test_mistakes_are_one_line(name, variant, words):
    with refused() as caught:
        load_builtin(f"builtin:{name}", variant, "train")
    assert all(word in str(caught.value) for word in words)
