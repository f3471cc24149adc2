"""The cases of family cyclegan."""

from __future__ import annotations

from hf_genmodels import CycleGANPipeline
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import tiny_resnet

TRANSLATOR = {"width": 2, "discriminator_width": 2, "receptive_field": 16}
SMALL = TRANSLATOR | {"norm": "instance"}
RUN = TRANSLATOR | {"dataset_name": "builtin:edges", "resolution": 8, "latent_dim": None, "random_flip": True}

CASE = FamilyCase(
    options="--resolution 8 --max_train_samples 32 --width 2 --discriminator_width 2 --receptive_field 16 "
    "--num_blocks 1 --pool_size 16 --norm batch",
    dataset_name="builtin:edges",
    pipelines={
        "CycleGANPipeline": lambda shape, scale: CycleGANPipeline(
            tiny_resnet(shape), tiny_resnet(shape), value_scale=scale
        )
    },
    images_only=frozenset({"CycleGANPipeline"}),
    equal={
        "cyclegan": Equal(SMALL | {"num_blocks": 1, "pool_size": 3}, "builtin:edges", 8, float64=True, own_rows=True)
    },
    resumed={"cyclegan": RUN | {"num_blocks": 1, "pool_size": 2, "gradient_accumulation_steps": 2}},
)
