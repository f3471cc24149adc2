"""JPEGs that become much smaller are decoded at reduced size, and look like those decoded whole."""

from __future__ import annotations

import io
from itertools import product

import numpy as np
import pytest
from PIL import Image, ImageOps

from hf_genmodels.data.conversion import AS_STORED, Conversion
from hf_genmodels.data.decoding import EXIF_ORIENTATION, BadImage, Encoded, Half, Stack, opened
from hf_genmodels.data.reader import Reader

SHARP = {"RGB": "RGB", "L": "L", "CMYK": "RGB"}


def photograph(height, width, mode="RGB"):
    """Slopes and waves, steep enough to tell where a pixel is from."""
    rows, columns = np.mgrid[:height, :width]
    waves = [rows / height, columns / width, np.sin(rows / 17) * np.cos(columns / 23) / 2 + 0.5]
    return Image.fromarray(np.stack([255 * wave for wave in waves], axis=2).astype(np.uint8)).convert(mode)


def jpeg(image, turn=1, **options):
    exif, file = Image.Exif(), io.BytesIO()
    exif[EXIF_ORIENTATION] = turn
    image.save(file, "JPEG", quality=95, subsampling=0, exif=exif, **options)
    return Encoded(file.getvalue(), None)


def decoded_whole(record, mode, size):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(record.data))).convert(mode)
    pixels = np.asarray(image.resize(size[::-1], Image.Resampling.LANCZOS))
    return pixels.reshape(*size, -1).transpose(2, 0, 1).astype(float)


@pytest.mark.parametrize(("size", "resolution", "reduce", "becomes"), [
    ((256, 256), (64, 64), 2, (64, 64)),
    ((256, 256), (65, 65), 1, (65, 65)),
    ((259, 391), (32, 32), 4, (32, 48)),
    ((400, 600), (20, 25), 8, (20, 30)),
    ((401, 601), (25, 25), 8, (25, 37)),
    ((250, 130), (30, 8), 4, (30, 16)),
])  # fmt: skip
def test_reduced_decoding(size, resolution, reduce, becomes):
    for mode, progressive in product(SHARP, (False, True)):
        conversion = Conversion("rgb") if mode == "CMYK" else AS_STORED
        record = jpeg(photograph(*size, mode), progressive=progressive)
        with opened(record, conversion) as (header, pixels):
            assert (header.height, header.width) == size
            assert pixels(reduce).shape[:2] == tuple(-(-side // reduce) for side in size)
        reader = Reader(header.kind, None, resolution, center_crop=False, conversion=conversion)
        assert reader.reduction(header) == reduce
        found = reader.read(record)
        difference = found - decoded_whole(record, SHARP[mode], becomes)
        assert found.shape[1:] == becomes == reader.target_shape(header)[1:]
        assert np.abs(difference).max() <= (0 if reduce == 1 else 6)
        assert np.sqrt((difference**2).mean()) < 1.2


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("size", [(160, 240), (161, 243)])
def test_turned_photographs(turn, size):
    record = jpeg(photograph(*size), turn)
    upright = size if turn < 5 else size[::-1]
    with opened(record) as (header, _):
        assert (header.height, header.width) == upright
    reader = Reader(header.kind, None, (20, 20), center_crop=False)
    becomes = reader.target_shape(header)[1:]
    assert np.abs(reader.read(record) - decoded_whole(record, "RGB", becomes)).max() <= 6


def test_crops_after_resizing():
    record = jpeg(photograph(256, 320))
    with opened(record) as (header, _):
        pass
    reader = Reader(header.kind, None, (48, 48), center_crop=True, crop_size=(40, 32))
    middle = decoded_whole(record, "RGB", (48, 60))[:, 4:44, 14:46]
    assert np.abs(reader.read(record) - middle).max() <= 6
    reader = Reader(header.kind, None, None, center_crop=True, crop_size=(40, 32))  # cut out at full resolution
    middle = decoded_whole(record, "RGB", (256, 320))[:, 108:148, 144:176]
    assert np.array_equal(reader.read(record), middle)


def test_parts_of_an_image_are_decoded_whole():
    """Halves may begin within a pixel of a reduced image; the channels of a stack may be stored in several formats."""
    grey, png = jpeg(photograph(128, 256, "L")), io.BytesIO()
    photograph(128, 256, "L").save(png, "PNG")
    for record in (Stack((grey, Encoded(png.getvalue(), None))), Half(grey, right=False), Half(grey, right=True)):
        with opened(record) as (header, pixels):
            assert np.array_equal(pixels(4), pixels())
        assert Reader(header.kind, None, (16, 16), center_crop=True).read(record).shape[1:] == (16, 16)


def test_a_cut_photograph_is_found_at_reduced_size():
    record = jpeg(photograph(256, 256))
    with opened(record) as (header, _):
        pass
    reader = Reader(header.kind, None, (32, 32), center_crop=True)
    with pytest.raises(BadImage, match="truncated"):
        reader.read(Encoded(record.data[: len(record.data) // 2], None))


def test_the_middle_is_kept_before_resizing_and_proportions_need_not_be():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    kept = Image.fromarray(pixels[5:45, 8:72])  # 0.8 of 50 x 80
    with opened(pixels) as (header, _):
        pass
    for mode, becomes in (("cover", (20, 32)), ("stretch", (20, 10))):
        reader = Reader(header.kind, None, (20, 10), False, center_fraction=0.8, resize_mode=mode)
        expected = np.asarray(kept.resize(becomes[::-1], Image.Resampling.LANCZOS))
        assert reader.target_shape(header)[1:] == becomes
        assert np.array_equal(reader.read(pixels), np.moveaxis(expected, 2, 0))
    stretched = Reader(header.kind, None, (20, 10), True, resize_mode="stretch").read(pixels)
    assert np.array_equal(stretched, np.moveaxis(np.asarray(Image.fromarray(pixels).resize((10, 20), 1)), 2, 0))


def test_a_stretched_photograph_is_decoded_at_reduced_size():
    record = jpeg(photograph(256, 512))
    with opened(record) as (header, _):
        pass
    reader = Reader(header.kind, None, (16, 16), True, resize_mode="stretch")
    assert reader.reduction(header) == 8
    assert np.abs(reader.read(record) - decoded_whole(record, "RGB", (16, 16))).max() <= 6
