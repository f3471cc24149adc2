"""What a sampler of an inverse problem is asked for, and which of it goes together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hf_genmodels.errors import UserError
from hf_genmodels.operators import Inpainting, LinearOperator

METHODS = ("dps", "pigdm", "repaint")
# Of "pigdm", in units of [-1, 1]
PRIOR_STD = 0.25


@dataclass(frozen=True)
class GuidanceProblem:
    """How to guide, checked."""

    operator: Any
    method: str
    step_size: float
    noise_std: float
    prior_std: float | None
    jump_length: int | None = None
    num_resamples: int | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UserError(f"method must be 'dps', 'pigdm' or 'repaint', got {self.method!r}")
        if self.method == "pigdm" and not isinstance(self.operator, LinearOperator):
            raise UserError(
                f"method 'pigdm' needs a linear operator, {type(self.operator).__name__} is none; use 'dps'"
            )
        if self.method == "repaint" and not isinstance(self.operator, Inpainting):
            raise UserError(f"method 'repaint' is for Inpainting, not {type(self.operator).__name__}; use 'dps'")
        if self.method != "pigdm" and (self.noise_std or self.prior_std is not None):
            instead = "of 'dps' choose step_size" if self.method == "dps" else "'repaint' keeps known pixels exactly"
            raise UserError(f"noise_std and prior_std are for method 'pigdm'; {instead}")
        if self.method == "repaint" and self.step_size != 1:
            raise UserError("step_size is for methods 'dps' and 'pigdm'; leave it out")
        for name in ("jump_length", "num_resamples"):
            if getattr(self, name) is not None and self.method != "repaint":
                raise UserError(f"{name} is for method 'repaint'; leave it out")
        if not self.noise_std >= 0:
            raise UserError(f"noise_std must be at least 0, got {self.noise_std}")
        for name in ("step_size", "prior_std"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name} must be above 0, got {value}")

    def check_prior(self, vae: Any) -> None:
        """Refuse methods that work on pixels where a DDPM of latents is the prior."""
        if vae is not None and self.method != "dps":
            raise UserError(f"method {self.method!r} works on pixels, and this DDPM is of a VAE's latents; use 'dps'")

    def denoised_variance(self, alpha_bar: float) -> float:
        """r_t^2 of "pigdm"."""
        variance = (self.prior_std or PRIOR_STD) ** 2
        return variance * (1 - alpha_bar) / (variance * alpha_bar + 1 - alpha_bar)
