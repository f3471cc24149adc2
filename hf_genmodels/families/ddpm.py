"""Family `ddpm`: its options, which of them go together, and how its networks are built or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..checks import check_minimums, check_positive, check_unused
from ..choices import DDPMLoss, PredictionType
from ..data.spec import DataSpec
from ..errors import UserError
from ..files import read_json
from ..sizes import sample_shape
from .base import Family, adopt_saved_options, check_labels, check_shape, class_notes, load_saved
from .denoisers import (
    build_scheduler,
    build_unet,
    load_scheduler,
    load_vae,
    saved_scheduler_options,
    saved_unet_options,
)

if TYPE_CHECKING:
    from ..objectives.ddpm import DDPMObjective


@dataclass
class DDPMArguments:
    """Options of `train_ddpm.py`; where diffusers' `train_unconditional` has them, with its names."""

    # Ho et al. 2020, appendix B, and the clipping of their code
    loop_defaults: ClassVar[dict[str, Any]] = {"learning_rate": 2e-4, "use_ema": True, "max_grad_norm": 1.0}

    prediction_type: PredictionType | None = field(
        default=None,
        metadata={
            "help": "What the network predicts: the noise, the sample, or v (Salimans & Ho 2022). Default: the noise "
            "of images, v of vectors and latents, which cannot be clipped."
        },
    )
    ddpm_num_steps: int = field(default=1000, metadata={"help": "T, time steps from a sample to noise."})
    ddpm_beta_schedule: Literal["linear", "squaredcos_cap_v2", "scaled_linear", "sigmoid", "laplace"] = field(
        default="linear",
        metadata={
            "help": "Variances: linear (Ho et al. 2020), cosine (Nichol & Dhariwal 2021), or what else diffusers' "
            "DDPMScheduler knows."
        },
    )
    ddpm_num_inference_steps: int = field(
        default=50, metadata={"help": "DDIM steps of the pictures made during training; at most --ddpm_num_steps."}
    )
    snr_gamma: float | None = field(
        default=None, metadata={"help": "gamma of the min-SNR weights (paper: 5); by default all weights are 1."}
    )
    ddpm_variance_type: Literal["fixed_small", "learned_range"] = field(
        default="fixed_small",
        metadata={
            "help": "Variances of the reverse steps: the posterior's (Ho et al. 2020), or where the network says "
            "between it and the forward step's (Nichol & Dhariwal 2021); diffusers' names."
        },
    )
    ddpm_loss: DDPMLoss | None = field(
        default=None,
        metadata={
            "help": "simple: mean squared error of the prediction; hybrid: plus 0.001 times the variational bound, "
            "which teaches the variances alone; vlb: the bound. Default: simple, or hybrid for learned variances."
        },
    )
    block_out_channels: list[int] | None = field(
        default=None,
        metadata={"help": "Widths of the levels, each of half the size (default: 32 64 64; one of 64 for vectors)."},
    )
    layers_per_block: int = field(default=2, metadata={"help": "Residual blocks of a level."})
    attention: bool = field(
        default=False, metadata={"help": "Self-attention in all levels but the first, not in the middle alone."}
    )
    dropout: float = field(default=0.0, metadata={"help": "Dropout in the residual blocks."})
    class_conditional: bool = field(
        default=False, metadata={"help": "Tell the network the class, for samples with classifier-free guidance."}
    )
    label_dropout: float = field(
        default=0.1, metadata={"help": "class_conditional: how often the network is not told the class."}
    )
    vae_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Folder or Hub id of a trained VAE, in whose latents to diffuse."}
    )


# building and reloading ----------------------------------------------------------------------------------------------


def build(args: DDPMArguments, data: DataSpec) -> "DDPMObjective":
    """The objective with new networks; see `Family.build`."""
    check_values(args)
    num_classes = check_labels(data, "--class_conditional") if args.class_conditional else None
    vae, shape = None, data.shape
    if args.vae_model_name_or_path is not None:
        vae = load_vae(args.vae_model_name_or_path)
        check_shape(vae, data)
        shape = (vae.config.latent_dim,)
    scheduler = build_scheduler(args, is_image=len(shape) == 3)
    unet = build_unet(args, shape, num_classes, data.name if vae is None else "the VAE")
    return objective(args, unet, scheduler, data, vae)


def reload(folder: Path, args: DDPMArguments, data: DataSpec) -> "DDPMObjective":
    """The objective around saved networks; see `Family.reload`.

    A checkpoint's networks do not say which noise they were trained with: there the options do. diffusers' first
    models have no folders: network and scheduler lie beside `model_index.json`.
    """
    from diffusers import UNet2DModel

    from ..loading import load_network

    if args.vae_model_name_or_path is not None:
        raise UserError("--vae_model_name_or_path cannot be changed with --pretrained_model_name_or_path")
    unet = load_network(UNet2DModel, folder / "unet" if (folder / "unet").is_dir() else folder)
    adopt_saved_options(args, saved_unet_options(unet.config))
    check_values(args)
    known = unet.config.num_class_embeds
    if args.class_conditional and check_labels(data, "this model") != known - 1:
        raise UserError(f"the saved network knows {known - 1} classes, {data.name} has {len(data.class_names or ())}")
    vae, scaling_factor = load_latents(folder) if has_latents(folder) else (None, 1.0)
    if vae is not None:
        check_shape(vae, data)
    elif (found := sample_shape(unet.config.in_channels, unet.config.sample_size)) != (
        data.channels,
        *(data.size or (1, 1)),
    ):
        raise UserError(f"the pretrained network takes samples of shape {found}, {data.name} has {data.shape}")
    place = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    if place != folder or (folder / "scheduler_config.json").is_file():
        scheduler = load_scheduler(place, trained_schedule(folder))
        adopt_saved_options(args, saved_scheduler_options(scheduler.config))
    else:
        scheduler = build_scheduler(args, is_image=unet.config.sample_size != 1)
    built = objective(args, unet, scheduler, data, vae, scaling_factor)
    if args.class_conditional:
        built.notes = class_notes(folder, data)
    return built


def objective(
    args: DDPMArguments, unet: Any, scheduler: Any, data: DataSpec, vae: Any, scaling_factor: float = 1.0
) -> "DDPMObjective":
    """The objective with the options' numbers; what the network predicts is recorded among them."""
    from ..objectives.ddpm import DDPMObjective

    args.prediction_type = scheduler.config.prediction_type
    return DDPMObjective(
        unet,
        scheduler,
        data,
        snr_gamma=args.snr_gamma,
        class_conditional=args.class_conditional,
        label_dropout=args.label_dropout,
        num_inference_steps=args.ddpm_num_inference_steps,
        vae=vae,
        scaling_factor=scaling_factor,
        loss=args.ddpm_loss,
    )


def check_values(args: DDPMArguments) -> None:
    """Refuse impossible values.

    Raises:
        UserError: One line that names the option.
    """
    check_minimums(args, ddpm_num_steps=2, ddpm_num_inference_steps=1, layers_per_block=1)
    check_positive(args, "snr_gamma")
    is_learned = args.ddpm_variance_type == "learned_range"
    for name in ("dropout", "label_dropout"):
        if not 0 <= getattr(args, name) < 1:
            raise UserError(f"--{name} must lie in [0, 1), got {getattr(args, name)}")
    if args.ddpm_loss is None:
        args.ddpm_loss = "hybrid" if is_learned else "simple"
    if is_learned and args.ddpm_loss == "simple":
        raise UserError(
            "--ddpm_loss simple does not teach the variances of --ddpm_variance_type learned_range; use hybrid or vlb"
        )
    if args.ddpm_loss == "hybrid" and not is_learned:
        raise UserError("--ddpm_loss hybrid teaches variances; it goes with --ddpm_variance_type learned_range")
    if args.ddpm_loss == "vlb":
        check_unused(args, "with --ddpm_loss vlb, which weighs time steps by itself", "snr_gamma")
    if not args.class_conditional:
        check_unused(args, "without --class_conditional", "label_dropout")


# saved schedules and latents -----------------------------------------------------------------------------------------


def trained_schedule(folder: Path) -> dict[str, Any]:
    """What a saved pipeline says of the noise of its training, which a sampler that it was saved with may not have."""
    index = folder / "model_index.json"
    schedule: dict[str, Any] = (read_json(index) if index.is_file() else {}).get("trained_schedule") or {}
    return schedule


def has_latents(folder: Path) -> bool:
    """Whether a saved model, or a checkpoint of networks, is one of a VAE's latents."""
    if (folder / "model_index.json").is_file():
        return (folder / "vae").is_dir()
    return any(place.is_dir() for place in (folder / "vae", folder.parent.parent / "frozen" / "vae"))


def load_latents(folder: Path) -> tuple[Any, float]:
    """The VAE of a saved LatentDDPMPipeline, and the factor that its latents were scaled by.

    Raises:
        UserError: The folder holds no pipeline: a checkpoint's networks do not say the factor.
    """
    if not (folder / "model_index.json").is_file():
        raise UserError(f"{folder} does not say how latents were scaled; give the folder of a finished run instead")
    scaling_factor: float = read_json(folder / "model_index.json").get("scaling_factor", 1.0)
    return load_saved(folder, "vae", ("VAE",)), scaling_factor


FAMILY = Family(
    "ddpm",
    "Denoising diffusion probabilistic model",
    DDPMArguments,
    build,
    reload,
    "DDPMPipeline",
    variants=("ConditionalDDPMPipeline", "LatentDDPMPipeline", "InverseProblemPipeline"),
)
