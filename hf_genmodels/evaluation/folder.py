"""A folder of images in place of a pipeline: what another program has made, to be compared with a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..data import DataArguments, load_split
from ..data.listing import OF_A_RUN, list_folder
from ..data.sources import open_source
from ..errors import UserError
from ..pipelines.base import GenerativePipeline
from ..pipelines.images import SampleShape

_FILES_OF_A_MODEL = (*OF_A_RUN, "config.json", "checkpoint.json")


def is_folder_of_images(name: str) -> bool:
    """Whether what is to be measured is a folder of images, and no model."""
    folder = Path(name)
    if not folder.is_dir() or any((folder / file).exists() for file in _FILES_OF_A_MODEL):
        return False
    return bool(list_folder(folder).images)


# Options of both the data and the folder.
SHARED = ("resolution", "crop_size", "center_crop_fraction", "resize_mode", "convert", "value_range", "on_bad_image")


class FolderOfImages(GenerativePipeline):
    """The images of a folder as the samples that a pipeline would make; see `read`.

    Attributes:
        name: The folder's.
        dataset: Its images.
    """

    name: str
    dataset: Any

    @classmethod
    def read(cls, folder: Path, data_args: DataArguments) -> FolderOfImages:
        """Look at a folder.

        Args:
            folder: Images of one kind and, without `resolution`, of one size, in sub-folders or not, and no splits.
            data_args: The data that they are compared with; sizes, `convert`, `value_range` and
                `on_bad_image` hold for both.

        Raises:
            UserError: The folder holds no such images, or several splits.
        """
        args = DataArguments(train_data_dir=str(folder), **{option: getattr(data_args, option) for option in SHARED})
        roots = open_source(args).roots
        if len(roots) > 1:
            split, root = next(iter(roots.items()))
            others = ", ".join(name for name in roots if name != split)
            raise UserError(f"{folder} holds the splits {split}, {others}: give the folder of one, such as {root}")
        found = cls()
        found.name, found.dataset = folder.resolve().name, load_split(args, "train")
        return found

    @property
    def sample_shape(self) -> SampleShape:
        """Shape of one image."""
        shape: SampleShape = self.dataset.spec.shape
        return shape
