"""The options every training script takes about its data. Their names are those of diffusers' example scripts."""

from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Literal

from ..errors import UserError
from ..sizes import as_option, height_width

# The parser of options knows no `int | list[int]`; in Python one number will do.
if TYPE_CHECKING:
    from .conversion import Conversion

    Size = int | list[int]
else:
    Size = list[int]

# The option whose columns may be of several kinds.
STACKED_INPUTS = "conditioning_image_columns"


@dataclass
class DataArguments:
    """Which images to learn from, and their size. Exactly one of `dataset_name` and `train_data_dir` is given.

    `resolution` and `crop_size` become one number where their two are equal.
    """

    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "The data: a data set on the Hub (`user/name`), a local folder of images or of parquet files, or "
            "a set that comes with the library (`builtin:digits`, `builtin:toy2d`, `builtin:shapes`, "
            "`builtin:textures`, `builtin:edges`, `builtin:polarimetric`)."
        },
    )
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "The variant of the data set, for example `ring8` of `builtin:toy2d`."}
    )
    revision: str | None = field(
        default=None,
        metadata={"help": "The branch, tag or commit of the data set on the Hub. Default: its main branch."},
    )
    train_data_dir: str | None = field(
        default=None,
        metadata={"help": "A local folder of images; the names of its sub-folders, if it has any, become the labels."},
    )
    dataset_name_b: str | None = field(
        default=None,
        metadata={
            "help": "Families of two domains: the data of domain B, as --dataset_name; the latter are domain A."
        },
    )
    train_data_dir_b: str | None = field(
        default=None, metadata={"help": "Families of two domains: a local folder of the images of domain B."}
    )
    side_by_side: bool = field(
        default=False,
        metadata={
            "help": "Image to image: every image of --image_column shows A in its left half, B in its right one, as "
            "in the data sets of pix2pix."
        },
    )
    direction: Literal["a_to_b", "b_to_a"] = field(
        default="a_to_b",
        metadata={
            "help": "Image to image, --side_by_side or of a folder with trainA/ and trainB/: with `b_to_a`, A and B "
            "change places."
        },
    )
    image_column: str = field(default="image", metadata={"help": "The column that holds the images."})
    conditioning_image_column: str = field(
        default="conditioning_image",
        metadata={"help": "Image to image: the column of the images to translate (domain A, where both are columns)."},
    )
    conditioning_image_columns: list[str] | None = field(
        default=None,
        metadata={
            "help": "Image to image: several columns whose images are the channels of the input, in this order, such "
            "as `rgb depth`. They have one size each example; kinds and units may differ."
        },
    )
    target_image_column: str = field(
        default="target_image",
        metadata={"help": "Image to image: the column of the images to translate to (domain B)."},
    )
    image_columns: list[str] | None = field(
        default=None,
        metadata={
            "help": "Several columns whose images are the channels of one, in this order, such as `i000 i045 i090 "
            "i135`; image to image: of the target (domain B)."
        },
    )
    label_column: str = field(
        default="label",
        metadata={"help": "The column that holds the classes. A set without a `label` column has no classes."},
    )
    exclude_label: str | None = field(
        default=None,
        metadata={
            "help": "A class (its name, or its index) to leave out of the training images and of the validation "
            "images the loss is measured on, as anomaly detection needs. Evaluation still sees every class."
        },
    )
    train_split: str = field(default="train", metadata={"help": "The split to learn from."})
    validation_split: str | None = field(
        default=None,
        metadata={
            "help": "The split the validation loss is measured on. Default: `validation` if there is one, else "
            "`test`, else none."
        },
    )
    validation_size: float | None = field(
        default=None,
        metadata={
            "help": "Hold training images out as validation images: how many, or which share (below 1). The same ones "
            "for every --seed. Default: none."
        },
    )
    cache_dir: str | None = field(
        default=None, metadata={"help": "Where downloaded and converted data sets are kept. Default: the Hub's cache."}
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "Read the data as it comes instead of downloading it whole; shuffles within a buffer."},
    )
    shuffle_buffer_size: int = field(
        default=1000,
        metadata={
            "help": "About how many examples of a stream are held back, undecoded, to shuffle it: of all processes "
            "together. 1 for none."
        },
    )
    on_bad_image: Literal["error", "skip"] = field(
        default="error",
        metadata={
            "help": "What to do with a file that is no image or has another mode or size than the rest: stop with an "
            "`error` that names it, or `skip` it and report how many were skipped."
        },
    )
    resolution: Size | None = field(
        default=None,
        metadata={
            "help": "Size of the images, one number for a square or height and width: resize them, keeping their "
            "proportions, until they cover it, then crop. Default: keep them as they are; all must have one size."
        },
    )
    crop_size: Size | None = field(
        default=None,
        metadata={
            "help": "Size to cut out of the images, one number or height and width: without --resolution at full "
            "resolution, with a larger one after resizing (286 and 256 are pix2pix's jitter). Default: --resolution."
        },
    )
    center_crop_fraction: float | None = field(
        default=None,
        metadata={
            "help": "Share of height and width, in the middle of each image, that is kept before it is resized to "
            "--resolution, such as 0.8. Default: all of it."
        },
    )
    resize_mode: Literal["cover", "stretch"] | None = field(
        default=None,
        metadata={
            "help": "How images become --resolution: `cover` keeps their proportions and crops what is too much, "
            "`stretch` does not keep them. Default: cover."
        },
    )
    convert: Literal["rgb", "grey"] | None = field(
        default=None,
        metadata={
            "help": "Make all images RGB or grey, in their own precision and without alpha. Default: keep their modes."
        },
    )
    value_range: list[float] | None = field(
        default=None,
        metadata={
            "help": "Stored values that mean black and white, such as `0 4095` of 12-bit data; those beyond are cut. "
            "Default: 0 and the largest of 8 or 16 bits, or 1 of floats."
        },
    )
    center_crop: bool = field(
        default=False, metadata={"help": "Crop training images at the centre. Default: at a random place."}
    )
    random_flip: bool = field(
        default=False, metadata={"help": "Mirror every other training image, chosen at random, left to right."}
    )
    max_train_samples: int | None = field(
        default=None,
        metadata={"help": "Learn from only this many images, drawn with the seed (the first ones when streaming)."},
    )
    dataloader_num_workers: int | None = field(
        default=None,
        metadata={
            "help": "Processes that decode images ahead of training. Sets decoded into memory (up to 2 GiB) need "
            "none; the batches are the same for every number. Default: one a core of each process, at most 4."
        },
    )

    def __post_init__(self) -> None:
        for name in ("resolution", "crop_size"):
            size = getattr(self, name)
            if isinstance(size, (list, tuple)):
                setattr(self, name, size[0] if len(set(size)) == 1 and len(size) < 3 else list(size))
        if self.value_range is not None:
            self.value_range = list(self.value_range)

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) that is asked for, None for the images' own."""
        size = self.resolution if self.crop_size is None else self.crop_size
        return None if size is None else height_width(size)

    @property
    def conversion(self) -> "Conversion":
        """What is done to modes and values."""
        from .conversion import Conversion

        low_and_high = None if self.value_range is None else (self.value_range[0], self.value_range[1])
        return Conversion(self.convert, low_and_high)

    def check_images(self) -> None:
        """Refuse impossible sizes and ranges.

        Raises:
            UserError: One line that names the option.
        """
        sizes = {name: getattr(self, name) for name in ("resolution", "crop_size")}
        sides = {name: height_width(size, f"--{name}") for name, size in sizes.items() if size is not None}
        if len(sides) == 2 and any(c > r for r, c in zip(sides["resolution"], sides["crop_size"], strict=True)):
            raise UserError(
                f"--crop_size {as_option(*sides['crop_size'])} is larger than --resolution "
                f"{as_option(*sides['resolution'])}: give a smaller one"
            )
        fraction = self.center_crop_fraction
        if fraction is not None and not 0 < fraction <= 1:
            raise UserError(
                f"--center_crop_fraction {fraction:g} is no share of an image: give one above 0, at most 1"
            )
        if self.resize_mode not in (None, "cover", "stretch"):
            raise UserError(f"--resize_mode {self.resize_mode} is neither cover nor stretch")
        for name in ("center_crop_fraction", "resize_mode"):
            if getattr(self, name) is not None and self.resolution is None:
                raise UserError(f"--{name} has no effect without --resolution; give that, or leave it out")
        if self.convert not in (None, "rgb", "grey"):
            raise UserError(f"--convert {self.convert} is neither rgb nor grey")
        if self.value_range is not None:
            numbers = [value for value in self.value_range if isinstance(value, (int, float)) and isfinite(value)]
            if len(numbers) != 2 or len(self.value_range) != 2 or numbers[0] >= numbers[1]:
                given = " ".join(map(str, self.value_range))
                raise UserError(
                    f"--value_range {given} is no range: give the values of black and white, the lower first"
                )
