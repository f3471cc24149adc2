"""Scenes of dielectric bodies under a sky, and what a colour camera and a polarimetric one see of them.

The camera is the origin and looks along z; x is to its right, y up. Surfaces are a mixture: the smooth part, a share
`gloss`, reflects the sky and the lamp like a mirror and lets the diffuse light from within out, both by Fresnel's
equations (M. Born, E. Wolf, "Principles of Optics", section 1.5.2); the rough rest only sends out diffuse light, fully
depolarised. With R_s and R_p the reflected shares of light polarised perpendicular and parallel to the plane of
incidence, L the light that arrives from the mirror direction, D the diffuse light, both unpolarised, and g the gloss:

S0 = D + g (R_s + R_p) / 2 (L - D)
polarised part, along the normal of the plane of incidence: g (R_s - R_p) / 2 (L - D)

A negative part is polarised along the plane. Since 0 <= R_p <= R_s <= 1 it never exceeds S0. Left out: shadows,
reflections of one body in another, and the polarisation of the sky itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

TAN_HALF_VIEW = 0.7
# The horizon lies above the middle of the image, by this part of the distance to the image plane.
SHIFT = 0.35
# Depth that counts as 1, like the sky's.
FAR = 20.0
# Surfaces of at least this gloss count as glossy: none is drawn between 0.1 and 0.7.
GLOSSY = 0.5
AMBIENT, LAMP = 0.4, 0.6
# The lamp in a mirror: its brightness, and how narrow it is.
GLARE, SHARPNESS = 4.0, 40.0
TILE = 1.0
# What a pixel can show, by class number.
KINDS = ("sky", "ground", "sphere", "box", "cone", "wall")


@dataclass(frozen=True)
class Material:
    """What a surface is made of.

    Attributes:
        albedo: `(3,)` red, green and blue, in [0, 1].
        gloss: Share of the surface that is smooth, in [0, 1].
        index: Index of refraction, above 1.
    """

    albedo: np.ndarray
    gloss: float
    index: float


@dataclass(frozen=True)
class Body:
    """Something that stands on the ground.

    Attributes:
        kind: "sphere", "box", "cone" (point upwards) or "wall", a box that stands behind the others.
        x: To the right of the camera.
        z: In front of the camera.
        size: Half the extent of a box along its own three axes. A sphere has the second number for its radius; a cone
            has the first, and is three times the second high.
        yaw: Turn about the vertical axis, in radians.
        material: Of the whole surface.
    """

    kind: str
    x: float
    z: float
    size: tuple[float, float, float]
    yaw: float
    material: Material


@dataclass(frozen=True)
class Scene:
    """Everything that decides about an image.

    Attributes:
        height: The camera's, above the ground.
        ground: Its material; every second tile is darker.
        bodies: In any order.
        lamp: `(3,)` unit vector towards the lamp.
        horizon: `(3,)` colour of the sky at the horizon, in [0, 1].
        zenith: `(3,)` colour of the sky above, in [0, 1].
    """

    height: float
    ground: Material
    bodies: tuple[Body, ...]
    lamp: np.ndarray
    horizon: np.ndarray
    zenith: np.ndarray

    def mirrored(self) -> Scene:
        """The scene with left and right exchanged."""
        bodies = tuple(replace(body, x=-body.x, yaw=-body.yaw) for body in self.bodies)
        return replace(self, bodies=bodies, lamp=self.lamp * [-1, 1, 1])


def _draw_material(generator: np.random.Generator, glossy: bool) -> Material:
    # Dark surfaces polarise more (Umov): their diffuse light does not drown the reflection.
    brightness = np.exp(generator.uniform(np.log(0.03), np.log(0.4))) if glossy else generator.uniform(0.3, 0.85)
    colour = generator.uniform(0.25, 1.0, 3)
    gloss = generator.uniform(0.7, 1.0) if glossy else generator.uniform(0.0, 0.1)
    return Material(brightness * colour / colour.max(), gloss, generator.uniform(1.4, 2.0))


def draw_scene(generator: np.random.Generator, kinds: Sequence[str]) -> Scene:
    """Draws a scene with two to four bodies of these kinds, and in three of five a wall behind them.

    Of the surfaces about half are glossy and half matt, at least one of each.
    """
    number = int(generator.integers(2, 5))
    walls = int(generator.random() < 0.6)
    glossy = generator.permutation(np.arange(number + 1 + walls) % 2 == 0)
    materials = [_draw_material(generator, bool(flag)) for flag in glossy]
    bodies = []
    for material in materials[:number]:
        z = generator.uniform(3.0, 6.0)
        x = generator.uniform(-0.9, 0.9) * TAN_HALF_VIEW * z
        size = tuple(generator.uniform(0.4, 1.2, 3))
        kind = kinds[int(generator.integers(len(kinds)))]
        bodies.append(Body(kind, x, z, size, generator.uniform(-np.pi, np.pi), material))
    if walls:
        size = (100.0, generator.uniform(0.5, 2.0), 0.1)
        bodies.append(
            Body("wall", 0.0, generator.uniform(9.0, 14.0), size, generator.uniform(-0.4, 0.4), materials[-1])
        )
    elevation, azimuth = generator.uniform(0.35, 1.2), generator.uniform(-np.pi, np.pi)
    lamp = np.array([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)])
    haze, blue = generator.uniform(0.6, 0.95), generator.uniform(0.3, 1.0)
    horizon = haze * np.array([1.0, 0.97, 0.92])
    zenith = haze * np.array([1 - 0.65 * blue, 1 - 0.4 * blue, 1.0])
    return Scene(generator.uniform(1.2, 2.2), materials[number], tuple(bodies), lamp, horizon, zenith)


@lru_cache(maxsize=4)
def _view(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors `(3, pixels)`: where pixels look, and the camera's horizontal and vertical seen across that."""
    ticks = (2 * np.arange(size) + 1 - size) / size * TAN_HALF_VIEW
    x, y = np.tile(ticks, size), np.repeat(-ticks, size) - SHIFT
    ray = np.stack([x, y, np.ones_like(x)])
    ray /= np.linalg.norm(ray, axis=0)
    right = np.array([[1.0], [0.0], [0.0]]) - ray[0] * ray
    right /= np.linalg.norm(right, axis=0)
    up = np.cross(ray, right, axis=0)
    return ray, right, up


def _hit_sphere(ray: np.ndarray, body: Body, height: float) -> tuple[np.ndarray, np.ndarray]:
    radius = body.size[1]
    centre = np.array([body.x, radius - height, body.z])
    along = centre @ ray
    root = along**2 - centre @ centre + radius**2
    distance = np.where((root > 0) & (along > 0), along - np.sqrt(np.maximum(root, 0)), np.inf)
    reached = np.where(np.isfinite(distance), distance, 0.0)
    return distance, (reached * ray - centre[:, None]) / radius


def _hit_box(ray: np.ndarray, body: Body, height: float) -> tuple[np.ndarray, np.ndarray]:
    cosine, sine = np.cos(body.yaw), np.sin(body.yaw)
    turn = np.array([[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]])
    own_ray = turn @ ray
    origin = turn @ -np.array([body.x, body.size[1] - height, body.z])
    half = np.array(body.size)[:, None]
    # The slab of an axis is entered at the smaller of two distances and left at the larger.
    side = np.where(own_ray < 0, 1.0, -1.0)
    own_ray = np.where(own_ray == 0, 1e-300, own_ray)
    enter = (side * half - origin[:, None]) / own_ray
    leave = (-side * half - origin[:, None]) / own_ray
    last, axis = enter.max(axis=0), enter.argmax(axis=0)
    distance = np.where((last > 0) & (last < leave.min(axis=0)), last, np.inf)
    own_normal = np.where(axis == np.arange(3)[:, None], side, 0.0)
    return distance, turn.T @ own_normal


def _hit_cone(ray: np.ndarray, body: Body, height: float) -> tuple[np.ndarray, np.ndarray]:
    """The mantle; the base lies on the ground, unseen."""
    tall = 3 * body.size[1]
    slope = (body.size[0] / tall) ** 2
    apex = np.array([body.x, tall - height, body.z])
    # x^2 + z^2 = slope y^2, seen from the apex.
    weights = np.array([1.0, -slope, 1.0])
    a, b, c = weights @ ray**2, (weights * apex) @ ray, weights @ apex**2
    root = b**2 - a * c
    first = (b - np.sqrt(np.maximum(root, 0))) / a
    depth = apex[1] - first * ray[1]
    hit = (root > 0) & (first > 0) & (depth > 0) & (depth < tall)
    distance = np.where(hit, first, np.inf)
    normal = weights[:, None] * (np.where(hit, first, 1.0) * ray - apex[:, None])
    return distance, normal / np.maximum(np.linalg.norm(normal, axis=0), 1e-12)


_HIT = {"sphere": _hit_sphere, "box": _hit_box, "cone": _hit_cone, "wall": _hit_box}
# Channels of "masks"; the last one is of whatever a scene holds.
MASKS = ("sphere", "box", "cone", "glossy")


@dataclass
class _Surface:
    """What the pixels show: `(pixels,)`, or `(3, pixels)` for normal and albedo; distance is infinite for the sky.

    `body` is the number of the body, -1 for ground and sky; `kind` is the place in `KINDS`.
    """

    distance: np.ndarray
    normal: np.ndarray
    albedo: np.ndarray
    gloss: np.ndarray
    index: np.ndarray
    body: np.ndarray
    kind: np.ndarray


def _trace(scene: Scene, ray: np.ndarray) -> _Surface:
    """The nearest surface of every pixel."""
    down = ray[1] < 0
    distance = np.where(down, -scene.height / np.where(down, ray[1], -1.0), np.inf)
    x, z = (np.where(down, distance, 0.0) * ray)[[0, 2]]
    dark = (np.rint(x / TILE) + np.rint(z / TILE)) % 2
    # Far tiles are smaller than a pixel: their contrast fades.
    shade = 1 - 0.5 * dark * np.clip(1.5 - z / 8, 0, 1)
    found = _Surface(
        distance,
        np.tile([[0.0], [1.0], [0.0]], distance.size),
        scene.ground.albedo[:, None] * shade,
        np.full(distance.size, scene.ground.gloss),
        np.full(distance.size, scene.ground.index),
        np.full(distance.size, -1),
        np.where(down, KINDS.index("ground"), KINDS.index("sky")),
    )
    for number, body in enumerate(scene.bodies):
        distance, normal = _HIT[body.kind](ray, body, scene.height)
        nearer = distance < found.distance
        found.distance[nearer] = distance[nearer]
        found.normal[:, nearer] = normal[:, nearer]
        found.albedo[:, nearer] = body.material.albedo[:, None]
        found.gloss[nearer] = body.material.gloss
        found.index[nearer] = body.material.index
        found.body[nearer] = number
        found.kind[nearer] = KINDS.index(body.kind)
    return found


def _masks(scene: Scene, found: _Surface) -> np.ndarray:
    """`(4, pixels)` uint8 of 0 and 1, in the order of `MASKS`."""
    kinds = np.array([*(body.kind for body in scene.bodies), "ground or sky"])[found.body]
    glossy = (found.gloss >= GLOSSY) & np.isfinite(found.distance)
    return np.stack([*(kinds == kind for kind in MASKS[:-1]), glossy]).astype(np.uint8)


def _arriving(scene: Scene, direction: np.ndarray) -> np.ndarray:
    """Light from a direction, `(3, pixels)`: sky, ground below it, and the lamp."""
    height = np.clip(direction[1], 0, 1)
    sky = (1 - height) * scene.horizon[:, None] + height * scene.zenith[:, None]
    above = np.clip(0.5 + 4 * direction[1], 0, 1)
    ground = 0.5 * scene.ground.albedo[:, None]
    lamp = GLARE * np.exp(SHARPNESS * (scene.lamp @ direction - 1))
    return above * (sky + lamp) + (1 - above) * ground


def fresnel(cosine: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reflected shares (R_s, R_p) of light polarised perpendicular and parallel to the plane of incidence.

    Args:
        cosine: Of the angle of incidence, in [0, 1].
        index: Index of refraction of the body, in air.
    """
    root = np.sqrt(index**2 - 1 + cosine**2)
    perpendicular = ((cosine - root) / (cosine + root)) ** 2
    parallel = ((index**2 * cosine - root) / (index**2 * cosine + root)) ** 2
    return perpendicular, parallel


def render(scene: Scene, size: int) -> dict[str, np.ndarray]:
    """Renders a scene, one ray a pixel.

    Returns:
        `(channels, size, size)` float32 each, in [0, 1]; brighter scenes are exposed more shortly. "rgb": the light in
        three colours. "angles": I0, I45, I90, I135 of the mean of the colours; this camera is exposed twice as long,
        so that unpolarised white is 1 behind each polariser. "intensity": the mean of the four, half of S0 = I0 + I90;
        it equals the mean of the colours. "depth": z / 20, 1 from there on and for the sky. "masks", which is uint8:
        1 where a sphere, a box or a cone is seen, and where whatever is seen is glossy, a channel each.
        "labels", uint8: what the pixels show, the place in `KINDS`.
    """
    ray, right, up = _view(size)
    found = _trace(scene, ray)
    seen = np.isfinite(found.distance)
    cosine = np.clip(-(found.normal * ray).sum(axis=0), 0, 1)
    perpendicular, parallel = fresnel(cosine, found.index)
    towards_lamp = np.maximum(scene.lamp @ found.normal, 0)
    diffuse = found.albedo * (AMBIENT * (1 + found.normal[1]) / 2 + LAMP * towards_lamp)
    excess = found.gloss * (_arriving(scene, ray + 2 * cosine * found.normal) - diffuse)
    colour = np.where(seen, diffuse + (perpendicular + parallel) / 2 * excess, _arriving(scene, ray))
    polarised = np.where(seen, (perpendicular - parallel) / 2 * excess.mean(axis=0), 0.0)
    # The normal of the plane of incidence, as the camera sees it.
    across = np.cross(ray, found.normal, axis=0)
    a, b = (across * right).sum(axis=0), (across * up).sum(axis=0)
    length = np.maximum(a**2 + b**2, 1e-12)
    s0, s1, s2 = colour.mean(axis=0), polarised * (a**2 - b**2) / length, polarised * 2 * a * b / length
    angles = np.stack([s0 + s1, s0 + s2, s0 - s1, s0 - s2])
    exposure = 1 / max(1.0, colour.max(), angles.max())
    depth = np.where(seen, np.minimum(np.where(seen, found.distance, 0.0) * ray[2] / FAR, 1.0), 1.0)
    images = {
        "rgb": exposure * colour,
        "angles": exposure * angles,
        "intensity": exposure * s0[None],
        "depth": depth[None],
    }
    pictures = {name: image.reshape(-1, size, size).astype(np.float32) for name, image in images.items()}
    masks, labels = _masks(scene, found), found.kind.astype(np.uint8)
    return pictures | {"masks": masks.reshape(-1, size, size), "labels": labels.reshape(1, size, size)}
