"""What a network must offer to play a part in a family; `docs/own_networks.md` has what each takes and returns.

A pipeline annotates its networks with these types. Any `ModelMixin` with such a configuration and such methods will
do, one of ours or of anybody else's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from diffusers import ConfigMixin, ModelMixin

from .errors import UserError


@dataclass(frozen=True)
class Role:
    """One part.

    Attributes:
        title: What it does.
        config: Entries that the network's configuration must have.
        members: Methods and properties beside `forward` that are used.
        optional: Methods that are used where there are such.
    """

    title: str
    config: tuple[str, ...]
    members: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """What such a network is called."""
        return self.title.partition(",")[0]

    def check(self, where: str, network: Any) -> None:
        """Refuse what cannot play it.

        Args:
            where: Such as "component generator of GANPipeline".
            network: An instance.

        Raises:
            UserError: It is no `ModelMixin` with a configuration, or lacks an entry or a member.
        """
        network = getattr(network, "_orig_mod", network)  # of what torch.compile made, the network itself
        name, kind = type(network).__name__, self.kind
        if not isinstance(network, ModelMixin) or not isinstance(network, ConfigMixin):
            raise UserError(f"{where} must be a {kind}: a ModelMixin with a ConfigMixin, not a {name}")
        lacking = [entry for entry in self.config if entry not in network.config]
        if lacking:
            raise UserError(
                f"{where} must be a {kind}, but the configuration of {name} has no {lacking[0]}; "
                "docs/own_networks.md says what is needed"
            )
        lacking = [member for member in self.members if not hasattr(network, member)]
        if lacking:
            raise UserError(
                f"{where} must be a {kind}, but {name} has no {lacking[0]}; docs/own_networks.md says what is needed"
            )


GENERATOR = Role("generator, z -> x", ("latent_dim", "out_channels", "sample_size"))
ENCODER = Role("encoder, x -> z", ("in_channels", "sample_size", "latent_dim"))
TRANSLATOR = Role("translator, x -> y", ("in_channels", "out_channels", "sample_size"))
PIXELWISE_GENERATOR = Role(
    "pixel-wise generator, known pixels and z -> x", ("in_channels", "sample_size"), ("latent_shape",)
)
AUTOENCODER = Role("autoencoder, x -> z -> x", ("in_channels", "sample_size", "latent_dim"), ("encode", "decode"))
VAE_ROLE = Role(
    "VAE, x -> q(z|x), z -> p(x|z)",
    ("in_channels", "sample_size", "latent_dim"),
    ("posterior_parameters", "decoder_parameters", "decode", "negative_log_likelihood", "log_scale"),
)
CODING_DISCRIMINATOR = Role(
    "discriminator that recognises codes, x -> logit, codes",
    ("in_channels", "sample_size", "num_categories", "num_codes"),
)
FLOW = Role("flow, x <-> z", ("in_channels", "sample_size"), ("inverse", "dim"), ("generate",))
DENOISER = Role("denoising network, x_t, t -> noise", ("in_channels", "sample_size"))
STOCHASTIC_DENOISER = Role("stochastic denoiser, x_t, t, z -> x_0", ("in_channels", "sample_size", "latent_dim"))

Generator = Annotated[ModelMixin, GENERATOR]
Encoder = Annotated[ModelMixin, ENCODER]
Translator = Annotated[ModelMixin, TRANSLATOR]
PixelwiseNetwork = Annotated[ModelMixin, PIXELWISE_GENERATOR]
AutoencoderNetwork = Annotated[ModelMixin, AUTOENCODER]
VAENetwork = Annotated[ModelMixin, VAE_ROLE]
CodingDiscriminator = Annotated[ModelMixin, CODING_DISCRIMINATOR]
FlowNetwork = Annotated[ModelMixin, FLOW]
Denoiser = Annotated[ModelMixin, DENOISER]
StochasticDenoiser = Annotated[ModelMixin, STOCHASTIC_DENOISER]
