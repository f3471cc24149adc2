"""Family `polarimetric`: its options, which go together, and how networks are built from them or found again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from ..checks import check_minimums
from ..choices import LeftInverse
from ..data.spec import MIRRORED_ANGLES, DataSpec, Layout
from ..errors import UserError
from ..files import read_json
from . import cyclegan
from .base import TRANSLATION, Family, built_anew
from .cyclegan import CycleGANArguments
from .translators import second

if TYPE_CHECKING:
    from ..objectives.polarimetric import PolarimetricObjective

ANGLES = 4


@dataclass
class PolarimetricArguments(CycleGANArguments):
    """Options of `train_polarimetric.py`."""

    architecture: Literal["unet", "resnet", "polarcycle"] = field(  # type: ignore[assignment]
        default="resnet",
        metadata={
            "help": "unet (pix2pix's, with skips), resnet (CycleGAN's residual blocks) or polarcycle (the authors' "
            "own: zero padding, no norm in the blocks)."
        },
    )
    calibration_weight: float = field(
        default=1.0,
        metadata={
            "help": "mu, of C1: y = A B y, for y in [0, 255]. The default is the thesis', for a million steps; a few "
            "thousand want less, such as 0.02."
        },
    )
    cone_weight: float = field(
        default=1.0,
        metadata={
            "help": "nu, of C2: S0^2 >= S1^2 + S2^2, for y in [0, 255]. As of --calibration_weight, such as 0.001."
        },
    )
    paired_weight: float = field(
        default=0.0,
        metadata={
            "help": "Of the distance between a translation and its target; above 0 the data must be pairs of RGB and "
            "polarimetric images of the same scene."
        },
    )
    calibration: list[float] | None = field(
        default=None,
        metadata={
            "help": "A of the camera, 12 numbers: the rows of I0, I45, I90 and I135, in the columns of S0, S1 and S2. "
            "Default: an ideal camera's, or that of the model that is trained further."
        },
    )
    left_inverse: LeftInverse = field(
        default="authors",
        metadata={"help": "B: the thesis' left inverse of A (of an ideal camera), or Moore and Penrose's."},
    )


def layout(args: PolarimetricArguments) -> Layout:
    """Images of two domains, or pairs where their distance counts; the second ones have angles."""
    return Layout("pair" if args.paired_weight > 0 else "domains", mirrored_channels=MIRRORED_ANGLES)


def build(args: PolarimetricArguments, data: DataSpec) -> "PolarimetricObjective":
    """The objective with new networks; see `Family.build`."""
    check_options(args, data)
    return objective(args, cyclegan.all_networks(args, data), data)


def reload(folder: Path, args: PolarimetricArguments, data: DataSpec) -> "PolarimetricObjective":
    """The objective around saved networks; see `Family.reload`."""
    adopt_camera(args, folder)
    saved = cyclegan.saved_networks(folder, args)
    check_options(args, data, saved)
    networks = cyclegan.all_networks(args, data, saved)
    built = objective(args, networks, data)
    built.notes = built_anew(folder, (name for name in networks if name not in saved))
    return built


def objective(args: PolarimetricArguments, networks: dict[str, Any], data: DataSpec) -> "PolarimetricObjective":
    """The objective with the options' numbers."""
    from ..objectives.polarimetric import PolarimetricObjective

    return PolarimetricObjective(
        **networks,
        data=data,
        **cyclegan.numbers(args),
        calibration_weight=args.calibration_weight,
        cone_weight=args.cone_weight,
        paired_weight=args.paired_weight,
        calibration=rows(args),
        left_inverse=args.left_inverse,
    )


def check_options(
    args: PolarimetricArguments, data: DataSpec, saved: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Compare the options with each other, with the data, and with saved networks.

    Raises:
        UserError: One line that names the option, or images that have no four angles.
    """
    cyclegan.check_options(args, data, saved)
    check_minimums(args, calibration_weight=0, cone_weight=0, paired_weight=0)
    other = second(data)
    if other.channels != ANGLES:
        raise UserError(
            f"domain B of {other.name} has {other.channels} channels instead of the {ANGLES} angles I0, "
            "I45, I90 and I135; stack one column of each with --image_columns, or store .npy files"
        )
    rows(args)


def rows(args: PolarimetricArguments) -> list[list[float]] | None:
    """A as four rows of three numbers, None for an ideal camera's.

    Raises:
        UserError: Not 12 numbers.
    """
    numbers = args.calibration
    if numbers is None:
        return None
    if len(numbers) != 3 * ANGLES:
        raise UserError(f"--calibration takes 12 numbers, row by row, got {len(numbers)}")
    return [numbers[start : start + 3] for start in range(0, len(numbers), 3)]


def adopt_camera(args: PolarimetricArguments, folder: Path) -> None:
    """Take A, and B where it is not asked for, of the model in `folder`, or of the run of a checkpoint's networks."""
    index, run = folder / "model_index.json", folder.parent.parent / "training_args.json"
    if args.calibration is not None or not (index.is_file() or run.is_file()):
        return
    if index.is_file():
        saved = read_json(index)
        matrix = saved.get("calibration")
        args.calibration = None if matrix is None else [number for row in matrix for number in row]
    else:
        saved = read_json(run)["arguments"]
        args.calibration = saved.get("calibration")
    if args.left_inverse == PolarimetricArguments.left_inverse:
        args.left_inverse = saved.get("left_inverse", args.left_inverse)


FAMILY = Family(
    "polarimetric",
    "Polarimetric CycleGAN",
    PolarimetricArguments,
    build,
    reload,
    "PolarimetricPipeline",
    TRANSLATION,
    layout=layout,
)
