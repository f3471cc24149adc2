"""The cases of family flow."""

from __future__ import annotations

from hf_genmodels import FlowPipeline, Glow, RealNVP
from tests.testing_utils.cases import Equal, FamilyCase

GLOW = {"num_flow_steps": 1, "num_scales": 1, "hidden_channels": 4, "latent_dim": None}
REALNVP = {"architecture": "realnvp", "num_scales": 1, "hidden_channels": 4, "latent_dim": None}


def tiny_flow(shape: tuple[int, ...]) -> Glow | RealNVP:
    if len(shape) == 1:
        return RealNVP(*shape, num_couplings=2, hidden_dims=(8,))
    return Glow(shape[0], shape[1], num_flow_steps=1, num_scales=1, hidden_channels=4)


CASE = FamilyCase(
    options="--num_flow_steps 1 --num_scales 1 --hidden_channels 4",
    vector_options="--num_flow_steps 2 --hidden_dims 8",
    pipelines={"FlowPipeline": lambda shape, scale: FlowPipeline(tiny_flow(shape), value_scale=scale)},
    equal={
        "realnvp": Equal({"num_flow_steps": 4, "hidden_dims": [8]}),
        "planar": Equal({"architecture": "planar", "num_flow_steps": 2}),
        "glow": Equal(
            {"num_flow_steps": 2, "num_scales": 1, "hidden_channels": 4, "class_conditional": True}, "builtin:digits"
        ),
    },
    resumed={
        "realnvp": {"dataset_name": "builtin:toy2d", "hidden_dims": 8, "latent_dim": None, "max_grad_norm": 5},
        "glow": GLOW | {"lr_scheduler": "cosine"},
        "classes of realnvp": REALNVP | {"class_conditional": True},
        "classes of glow": GLOW | {"class_conditional": True, "gradient_accumulation_steps": 2},
    },
)
