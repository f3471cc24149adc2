"""A folder of images in place of a pipeline: what another program has made, to be compared with a data set."""

from __future__ import annotations

from pathlib import Path

from ..data import DataArguments, load_split
from ..data.listing import OF_A_RUN, list_folder
from ..pipelines.base import GenerativePipeline
from ..pipelines.images import SampleShape

_FILES_OF_A_MODEL = (*OF_A_RUN, "config.json", "checkpoint.json")


def is_folder_of_images(name: str) -> bool:
    """Whether what is to be measured is a folder of images, and no model."""
    folder = Path(name)
    if not folder.is_dir() or any((folder / file).exists() for file in _FILES_OF_A_MODEL):
        return False
    return bool(list_folder(folder).images)


class FolderOfImages(GenerativePipeline):
    """The images of a folder as the samples that a pipeline would make.

    Args:
        folder: Images of one kind and, without `resolution`, of one size, in sub-folders or not, and no splits.
        data_args: The data that they are compared with; `resolution` and `on_bad_image` hold for both.

    Raises:
        UserError: The folder holds no such images.
    """

    def __init__(self, folder: Path, data_args: DataArguments) -> None:
        self.name = folder.resolve().name
        self.dataset = load_split(
            DataArguments(
                train_data_dir=str(folder), resolution=data_args.resolution, on_bad_image=data_args.on_bad_image
            ),
            "train",
        )

    @property
    def sample_shape(self) -> SampleShape:
        """Shape of one image."""
        shape: SampleShape = self.dataset.spec.shape
        return shape
