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
) -> int:
    """Makes a data set of the usable patches of raw images, for `--train_data_dir`.

    `folder/angles` gets a `.npy` file `(size, size, 4)` of each patch, I0, I45, I90, I135 in counts, and
    `folder/intensity` one of the same name, `(size, size)` of float32: the mean of the four, where 1 is the largest
    value of the type (255 or 65535). The name is that of the capture, then row and column of the top left pixel. In
    `folder/metadata.jsonl` the former are the column `target_image`, the latter `conditioning_image`. With splits,
    write `folder/train` and `folder/test` from different captures.

    Args:
        captures: Raw images, as for `load_mosaic`.
        folder: Where to write; made if there is none, otherwise empty.
        size: Side of a patch, in pixels of one angle: half as many as of the raw image.
        stride: Distance from one patch to the next, in the same pixels.
        saturation: As for `usable`, to which every patch is put.
        threshold: As for `usable`.
        max_saturated: As for `usable`.
        layout: The angles of the top left 2x2 pixels.

    Returns:
        Number of patches written.

    Raises:
        UserError: A capture cannot be read or is too small, two have one name, none of the patches is usable, or
            `folder` is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder: give a new one")
    names = _capture_names(captures)
    lines, cut = [], 0
    with filling(folder) as written:
        for name, path in names.items():
            for row, column, patch in _placed_patches(path, size, stride, layout):
                cut += 1
                if usable(patch, saturation=saturation, threshold=threshold, max_saturated=max_saturated):
                    lines.append(_write_patch(written, f"{name}_{row:04}_{column:04}.npy", patch))
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


def _write_patch(folder: Path, name: str, patch: np.ndarray) -> dict[str, str]:
    """Writes the two files of a patch; returns its line of the metadata."""
    intensity = patch.mean(axis=0, dtype=np.float64) / np.iinfo(patch.dtype).max
    images = {"intensity": intensity.astype(np.float32), "angles": np.moveaxis(patch, 0, 2)}
    for side, image in images.items():
        (folder / side).mkdir(parents=True, exist_ok=True)
        np.save(folder / side / name, image)
    return {
        "conditioning_image_file_name": f"intensity/{name}",
        "target_image_file_name": f"angles/{name}",
    }
