"""Family `texture`: its option, and how its network is built."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..data.spec import DataSpec
from ..errors import UserError
from .base import Family

if TYPE_CHECKING:
    from ..objectives.texture import TextureObjective


@dataclass
class TextureArguments:
    """Options of `train_texture.py`."""

    example_index: int = field(
        default=0, metadata={"help": "Which of the training images is the exemplar, from 0 on."}
    )


def build(args: TextureArguments, data: DataSpec) -> "TextureObjective":
    """The objective with a new network; see `Family.build`."""
    from ..models.texture import StationaryTexture
    from ..objectives.texture import TextureObjective

    if data.size is None:
        raise UserError(f"a texture is fitted to an image, but {data.name} has vectors")
    if not 0 <= args.example_index < (data.num_examples or 0):
        raise UserError(
            f"--example_index {args.example_index} is none of the {data.num_examples} training images of "
            f"{data.name}, which are counted from 0"
        )
    return TextureObjective(StationaryTexture(data.channels, data.sample_size), data, args.example_index)


FAMILY = Family(
    "texture", "Stationary Gaussian texture", TextureArguments, build, pipeline="TexturePipeline", is_fitted=True
)
