"""Captures of cameras with a polariser on every pixel (division of focal plane), and which of them can be used.

Images are arrays `(4, height, width)` in the order I0, I45, I90, I135, in the counts of the sensor.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import filling
from .decoding import BadImage, Encoded, opened

ANGLES = (0, 45, 90, 135)
# Angles by row and column of a 2x2 block of pixels.
MosaicLayout = tuple[tuple[int, int], tuple[int, int]]
# Sony's IMX250MZR: rows of a 2x2 block of pixels, 0 degrees being horizontal.
SONY: MosaicLayout = ((90, 45), (135, 0))


def _places(layout: MosaicLayout) -> list[tuple[int, int]]:
    """Row and column in the 2x2 block of each angle."""
    places = {layout[row][column]: (row, column) for row in range(2) for column in range(2)}
    if set(places) != set(ANGLES):
        raise UserError(f"the mosaic's layout {layout} must name each of the angles 0, 45, 90 and 135 once")
    return [places[angle] for angle in ANGLES]


def _check(intensities: np.ndarray) -> None:
    if intensities.ndim != 3 or len(intensities) != 4:
        raise UserError(f"the intensities have shape {intensities.shape}, expected (4, height, width)")


def split_mosaic(raw: np.ndarray, layout: MosaicLayout = SONY) -> np.ndarray:
    """Takes a raw image apart, without interpolation: neighbouring angles are seen from half a pixel away.

    Args:
        raw: `(height, width)` uint8 or uint16, both even.
        layout: The angles of the top left 2x2 pixels.

    Returns:
        `(4, height / 2, width / 2)`, of the same type.

    Raises:
        UserError: The image has another shape or type, or an angle is missing from the layout.
    """
    if raw.dtype not in (np.uint8, np.uint16):
        raise UserError(f"a raw mosaic holds uint8 or uint16, this one {raw.dtype}")
    if raw.ndim != 2 or raw.shape[0] % 2 or raw.shape[1] % 2:
        raise UserError(f"a raw mosaic is (height, width), both even; this one has shape {raw.shape}")
    return np.stack([raw[row::2, column::2] for row, column in _places(layout)])


def join_mosaic(intensities: np.ndarray, layout: MosaicLayout = SONY) -> np.ndarray:
    """The raw image that `split_mosaic` takes apart into these.

    Args:
        intensities: `(4, height, width)`.
        layout: The angles of the top left 2x2 pixels.

    Returns:
        `(2 height, 2 width)`, of the same type.

    Raises:
        UserError: There are not four images, or an angle is missing from the layout.
    """
    _check(intensities)
    _, height, width = intensities.shape
    raw = np.empty((2 * height, 2 * width), dtype=intensities.dtype)
    for image, (row, column) in zip(intensities, _places(layout), strict=True):
        raw[row::2, column::2] = image
    return raw


def load_mosaic(path: str | Path, layout: MosaicLayout = SONY) -> np.ndarray:
    """Reads a raw image, 8 or 16-bit grey (PNG, TIFF or `.npy`), and takes it apart.

    Args:
        path: The file.
        layout: The angles of the top left 2x2 pixels.

    Returns:
        `(4, height / 2, width / 2)`, uint8 or uint16, in counts.

    Raises:
        UserError: The file is missing, no image, in colour or of floats, or has an odd height or width.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: there is no such file; give the raw image of a capture")
    try:
        with opened(Encoded(None, str(path))) as (header, pixels):
            kind = header.kind
            if kind.channels != 1 or kind.dtype not in ("uint8", "uint16"):
                raise BadImage(f"is {kind.label}, and a raw mosaic is 8 or 16-bit grey: save it as the camera sent it")
            raw = pixels()[:, :, 0].astype(kind.dtype)
    except BadImage as error:
        raise UserError(f"{path} {error}") from error
    try:
        return split_mosaic(raw, layout)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def saturated_share(intensities: np.ndarray, saturation: float) -> float:
    """Share of the pixels, in [0, 1], of which at least one of the four counts is `saturation` or more."""
    _check(intensities)
    return float((intensities >= saturation).any(axis=0).mean())


def inadmissibility(intensities: np.ndarray) -> float:
    """||max(DoLP - 1, 0)||_F / (number of pixels), at least 0, with DoLP = sqrt(S1^2 + S2^2) / (S0 + 1e-5).

    The statistic by which R. Blin, C. Ruffino et al. (CVIU 2022, published code) choose captures, S0 being I0 + I90.
    Its size is that of the few worst pixels: it is large only where a pixel is dark at 0 and 90 degrees and not at
    the other two.
    """
    _check(intensities)
    i0, i45, i90, i135 = intensities.astype(np.float64)
    degree = np.hypot(i0 - i90, i45 - i135) / (i0 + i90 + 1e-5)
    return float(np.linalg.norm(np.maximum(degree - 1, 0)) / degree.size)


def usable(intensities: np.ndarray, *, saturation: float, threshold: float = 0.5, max_saturated: float = 0.01) -> bool:
    """Whether a capture, or a patch of one, is fit for training.

    Args:
        intensities: `(4, height, width)`, in counts.
        saturation: The largest count, 255 for 8 bits.
        threshold: `inadmissibility` must be below it; 0.5 is the published value.
        max_saturated: `saturated_share` must not be above it.

    Raises:
        UserError: There are not four images.
    """
    return saturated_share(intensities, saturation) <= max_saturated and inadmissibility(intensities) < threshold


def patches(intensities: np.ndarray, size: int, stride: int) -> np.ndarray:
    """All squares of a capture that begin at a multiple of `stride` and fit, row by row.

    Args:
        intensities: `(4, height, width)`.
        size: Side of a square, in pixels.
        stride: Distance from one to the next, in pixels.

    Returns:
        `(patches, 4, size, size)`, a copy.

    Raises:
        UserError: There are not four images, `stride` is not positive, or a square is larger than the images.
    """
    _check(intensities)
    if not 1 <= size <= min(intensities.shape[1:]) or stride < 1:
        raise UserError(
            f"patches of {size}x{size} pixels every {stride} cannot be cut from images of shape {intensities.shape}"
        )
    windows = np.lib.stride_tricks.sliding_window_view(intensities, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return windows.transpose(1, 2, 0, 3, 4).reshape(-1, 4, size, size)


def area_averaged(intensities: np.ndarray, factor: int) -> np.ndarray:
    """A capture in fewer pixels: the mean of every square of `factor` x `factor` pixels, for each angle by itself.

    That is what a sensor of larger pixels measures, since light adds up: the Stokes vector of the mean is the mean of
    the Stokes vectors, and what is admissible stays so. Degrees and angles of polarisation cannot be averaged like
    this. A saturated pixel is hidden by its neighbours: look for them before (`usable`).

    Args:
        intensities: `(4, height, width)`.
        factor: Side of a square; rows and columns that fill none are left out.

    Returns:
        `(4, height // factor, width // factor)` float64, in the unit of the intensities.

    Raises:
        UserError: There are not four images, or no square fits.
    """
    _check(intensities)
    rows, columns = (side // factor if factor >= 1 else 0 for side in intensities.shape[1:])
    if not rows or not columns:
        raise UserError(f"images of shape {intensities.shape} have no square of {factor}x{factor} pixels to average")
    kept = intensities[:, : rows * factor, : columns * factor]
    means: np.ndarray = kept.reshape(4, rows, factor, columns, factor).mean(axis=(2, 4), dtype=np.float64)
    return means


def gradient_energy(intensities: np.ndarray) -> float:
    """How much goes on in a patch: mean squared difference of neighbours, across plus down, of the mean of the four.

    Args:
        intensities: `(4, height, width)`, of at least two pixels a side.

    Returns:
        At least 0, in squared units of the intensities.
    """
    _check(intensities)
    intensity = intensities.mean(axis=0, dtype=np.float64)
    return float(sum(np.square(np.diff(intensity, axis=axis)).mean() for axis in (0, 1)))


def draw_by_energy(energies: Sequence[float], number: int, generator: np.random.Generator) -> np.ndarray:
    """Draws without replacement, each time one of those left with a probability in proportion to its energy.

    Those without energy come last, in their order. By P. Efraimidis and P. Spirakis, "Weighted random sampling with a
    reservoir", 2006: an exponential waiting time of this rate for each, and the first to come.

    Args:
        energies: At least 0 each.
        number: How many; all where there are fewer.
        generator: For the draw.

    Returns:
        Their indices, ascending.
    """
    with np.errstate(divide="ignore"):
        waiting = generator.standard_exponential(len(energies)) / np.asarray(energies, dtype=np.float64)
    return np.sort(np.argsort(waiting, kind="stable")[:number])


def write_patches(
    captures: Sequence[str | Path],
    folder: str | Path,
    *,
    size: int,
    stride: int,
    saturation: float,
    threshold: float = 0.5,
    max_saturated: float = 0.01,
    layout: MosaicLayout = SONY,
    scales: Sequence[int] = (1,),
    number: int | None = None,
    seed: int = 0,
) -> int:
    """Makes a data set of the usable patches of raw images, for `--train_data_dir`.

    `folder/angles` gets a `.npy` file `(size, size, 4)` of each patch, I0, I45, I90, I135 in counts, and
    `folder/intensity` one of the same name, `(size, size)` of float32: the mean of the four, where 1 is the largest
    value of the type (255 or 65535). The name is that of the capture, then row and column of the top left pixel. In
    `folder/metadata.jsonl` the former are the column `target_image`, the latter `conditioning_image`. With splits,
    write `folder/train` and `folder/test` from different captures.

    Of scale k a patch is `size * k` pixels wide, and averaged to `size` (`area_averaged`); its name ends in `_xk`. The
    angles of a data set with such patches are float32 throughout, in the unit of the intensity.

    Args:
        captures: Raw images, as for `load_mosaic`.
        folder: Where to write; made if there is none, otherwise empty.
        size: Side of a patch, in pixels of one angle: half as many as of the raw image.
        stride: Distance from one patch to the next, in the same pixels; of scale k, k times as far.
        saturation: As for `usable`, to which every patch is put, before it is averaged.
        threshold: As for `usable`.
        max_saturated: As for `usable`.
        layout: The angles of the top left 2x2 pixels.
        scales: Whole numbers; each gives patches of its own.
        number: Patches of each capture at each scale, or fewer where there are fewer: drawn with a probability in
            proportion to their gradient energy (`gradient_energy`, `draw_by_energy`). None takes all.
        seed: Of the draw.

    Returns:
        Number of patches written.

    Raises:
        UserError: A capture cannot be read or is too small, two have one name, none of the patches is usable,
            `folder` is not empty, or `scales` or `number` are not positive.
    """
    if not scales or len(set(scales)) < len(scales) or min(scales) < 1 or (number is not None and number < 1):
        raise UserError(
            f"patches of scales {tuple(scales)}, {number} of each, cannot be cut: give different scales from 1 on, "
            "and a number of at least 1, or None for all"
        )
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder: give a new one")
    names = _capture_names(captures)
    lines, cut = [], 0
    limits = {"saturation": saturation, "threshold": threshold, "max_saturated": max_saturated}
    with filling(folder) as written:
        for place, (name, path) in enumerate(names.items()):
            for scale in scales:
                found = list(_placed_patches(path, size * scale, stride * scale, layout))
                cut += len(found)
                white = np.iinfo(found[0][2].dtype).max
                kept = {
                    f"{name}_{row:04}_{column:04}{'' if scale == 1 else f'_x{scale}'}.npy": patch
                    for row, column, patch in found
                    if usable(patch, **limits)
                }
                chosen = _averaged_and_drawn(kept, scale, number, np.random.default_rng([seed, place, scale]))
                for file, patch in chosen.items():
                    lines.append(_write_patch(written, file, patch if max(scales) == 1 else patch / white, white))
        if not lines:
            raise UserError(
                f"none of the {cut} patches of {len(names)} captures is usable: too many pixels have {saturation} "
                "counts or more, or more light polarised than there is; raise max_saturated or threshold"
            )
        (written / "metadata.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return len(lines)


def _capture_names(captures: Sequence[str | Path]) -> dict[str, Path]:
    """Captures by a name made of what their paths do not share: cameras name files alike in a folder for each."""
    paths = [Path(os.path.abspath(capture)) for capture in captures]
    if not paths:
        raise UserError("there are no captures to cut patches from: give at least one raw image")
    root = os.path.commonpath([path.parent for path in paths])
    names: dict[str, Path] = {}
    for path in paths:
        name = "-".join(path.relative_to(root).with_suffix("").parts)
        if name in names:
            raise UserError(f"the patches of {names[name]} and {path} would have the same names: rename one of them")
        names[name] = path
    return names


def _placed_patches(path: Path, size: int, stride: int, layout: MosaicLayout) -> Iterator[tuple[int, int, np.ndarray]]:
    """Row and column of the top left pixel of every patch of a capture, and the patch."""
    intensities = load_mosaic(path, layout)
    try:
        cut = patches(intensities, size, stride)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    columns = (intensities.shape[2] - size) // stride + 1
    for number, patch in enumerate(cut):
        row, column = divmod(number, columns)
        yield row * stride, column * stride, patch


def _averaged_and_drawn(
    kept: dict[str, np.ndarray], scale: int, number: int | None, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """The patches of a scale that a data set gets, in counts, by name."""
    averaged = kept if scale == 1 else {name: area_averaged(patch, scale) for name, patch in kept.items()}
    if number is None:
        return averaged
    names = list(averaged)
    drawn = draw_by_energy([gradient_energy(patch) for patch in averaged.values()], number, generator)
    return {names[index]: averaged[names[index]] for index in drawn}


def _write_patch(folder: Path, name: str, patch: np.ndarray, white: int) -> dict[str, str]:
    """Writes the two files of a patch in counts up to `white`, or of floats up to 1; returns its metadata's line."""
    counted = patch.dtype.kind == "u"
    intensity = patch.mean(axis=0, dtype=np.float64) / (white if counted else 1)
    angles = np.moveaxis(patch if counted else patch.astype(np.float32), 0, 2)
    for side, image in {"intensity": intensity.astype(np.float32), "angles": angles}.items():
        (folder / side).mkdir(parents=True, exist_ok=True)
        np.save(folder / side / name, image)
    return {
        "conditioning_image_file_name": f"intensity/{name}",
        "target_image_file_name": f"angles/{name}",
    }
