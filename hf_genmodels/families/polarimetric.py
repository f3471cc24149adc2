"""Family `polarimetric`: its options, which go together, and how networks are built from them or found again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from ..checks import check_minimums, check_unused
from ..choices import ConeLoss, IntensitySource, LeftInverse, PolarimetricHead, PolarimetricView
from ..data.spec import MIRRORED_ANGLES, DataSpec, Layout
from ..errors import UserError
from ..files import read_json
from . import cyclegan
from .base import TRANSLATION, Family, adopt_saved_options, built_anew
from .cyclegan import CycleGANArguments
from .translators import build_patch_discriminator, build_translator, second

if TYPE_CHECKING:
    from ..objectives.polarimetric import PolarimetricObjective

ANGLES = 4
# channels of what a discriminator sees with --discriminator_input stokes
STOKES = 3


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
    cone_loss: ConeLoss = field(
        default="relu",
        metadata={"help": "C2: relu, max(S1^2 + S2^2 - S0^2, 0), or proximal, half the squared way to the cone."},
    )
    output_head: PolarimetricHead = field(
        default="tanh",
        metadata={
            "help": "What generator_ab ends in: each of the four intensities by itself, or cone, Stokes vectors of "
            "light that exists, of which the intensities follow: C1 and C2 then hold exactly and are no losses."
        },
    )
    intensity_source: IntensitySource = field(
        default="learned",
        metadata={
            "help": "--output_head cone: how bright a translation is; learned, or as bright as its input, up to a "
            "gain that hardly differs between neighbouring pixels."
        },
    )
    project_translations: bool | None = field(
        default=None,
        metadata={
            "help": "Project translations onto C1 and C2 before the discriminator and the cycle get them, and at "
            "inference. Default: as the model that is trained further; false for a new one."
        },
    )
    discriminator_input: PolarimetricView = field(
        default="intensities",
        metadata={"help": "What discriminator_b sees: the four intensities, or stokes, S0, S1 / S0 and S2 / S0."},
    )
    stokes_weight: float = field(
        default=0.0,
        metadata={
            "help": "Of the distance between S1 / S0 and S2 / S0 of two images, relative to that of their "
            "intensities, with --paired_weight and --identity_weight."
        },
    )
    identity_weight: float = field(
        default=0.0,
        metadata={
            "help": "Of the identity loss: generator_ab shall find the polarisation of an image of domain B from its "
            "brightness alone, generator_ba the colours of a grey image."
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
    args.project_translations = bool(args.project_translations)
    check_options(args, data)
    return objective(args, all_networks(args, data, {}), data)


def reload(folder: Path, args: PolarimetricArguments, data: DataSpec) -> "PolarimetricObjective":
    """The objective around saved networks; see `Family.reload`."""
    adopt_camera(args, folder)
    saved = cyclegan.saved_networks(folder, args)
    adopt_saved_options(args, saved_polarimetric_options(args, saved))
    if args.project_translations is None:
        args.project_translations = args.output_head != "cone" and was_projected(folder)
    check_options(args, data, saved)
    networks = all_networks(args, data, saved)
    built = objective(args, networks, data)
    built.notes = built_anew(folder, (name for name in networks if name not in saved))
    return built


def all_networks(args: PolarimetricArguments, data: DataSpec, saved: Mapping[str, Any]) -> dict[str, Any]:
    """The four networks by name: saved ones, and new ones, two of which may differ from those of CycleGAN.

    Raises:
        UserError: As of `cyclegan.all_networks`.
    """
    networks, other = dict(saved), second(data)
    if args.output_head == "cone" and "generator_ab" not in networks:
        head = {"output_head": "cone", "intensity_source": args.intensity_source, "calibration": rows(args)}
        networks["generator_ab"] = build_translator(args, data, other, head)
    if args.discriminator_input == "stokes" and "discriminator_b" not in networks:
        networks["discriminator_b"] = build_patch_discriminator(args, STOKES, other)
    return cyclegan.all_networks(args, data, networks)


def objective(args: PolarimetricArguments, networks: dict[str, Any], data: DataSpec) -> "PolarimetricObjective":
    """The objective with the options' numbers; C1 and C2 weigh nothing where they hold anyway."""
    from ..objectives.polarimetric import PolarimetricObjective

    is_cone = args.output_head == "cone"
    return PolarimetricObjective(
        **networks,
        data=data,
        **cyclegan.numbers(args),
        calibration_weight=0.0 if is_cone else args.calibration_weight,
        cone_weight=0.0 if is_cone else args.cone_weight,
        paired_weight=args.paired_weight,
        calibration=rows(args),
        left_inverse=args.left_inverse,
        cone_loss=args.cone_loss,
        project_translations=bool(args.project_translations),
        discriminator_input=args.discriminator_input,
        stokes_weight=args.stokes_weight,
    )


def check_options(
    args: PolarimetricArguments, data: DataSpec, saved: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Compare the options with each other, with the data, and with saved networks.

    Raises:
        UserError: One line that names the option, or images that have no four angles.
    """
    cyclegan.check_domains(args, data, saved)
    check_minimums(args, calibration_weight=0, cone_weight=0, paired_weight=0, stokes_weight=0)
    if args.paired_weight == args.identity_weight == 0:
        check_unused(args, "without --paired_weight and --identity_weight", "stokes_weight")
    if args.output_head == "cone":
        projects = ("project_translations",) if args.project_translations else ()
        unused = "calibration_weight", "cone_weight", "cone_loss", *projects
        check_unused(args, "with --output_head cone, which leaves nothing to correct", *unused)
    else:
        check_unused(args, f"with --output_head {args.output_head}", "intensity_source")
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


def was_projected(folder: Path) -> bool:
    """Whether the model in `folder`, or the run of a checkpoint's networks, projects its translations."""
    index, run = folder / "model_index.json", folder.parent.parent / "training_args.json"
    if index.is_file():
        return bool(read_json(index).get("project", False))
    return run.is_file() and bool(read_json(run)["arguments"].get("project_translations", False))


def saved_polarimetric_options(args: PolarimetricArguments, saved: Mapping[str, Any]) -> dict[str, Any]:
    """The options that saved networks answer, beside those of every translator.

    Raises:
        UserError: `--calibration` is another than the one that a saved head was made for.
    """
    from ..losses.polarimetry import same_camera

    head = saved["generator_ab"].config
    options = {
        name: head.get(name, getattr(PolarimetricArguments, name)) for name in ("output_head", "intensity_source")
    }
    if options["output_head"] == "cone" and not same_camera(head["calibration"], rows(args)):
        raise UserError(
            "--calibration cannot be changed with --pretrained_model_name_or_path: the head of the saved network was "
            f"made for {head['calibration'] or 'an ideal camera'}"
        )
    if "discriminator_b" in saved:
        sees_stokes = saved["discriminator_b"].config.in_channels == STOKES
        options["discriminator_input"] = "stokes" if sees_stokes else "intensities"
    return options


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
