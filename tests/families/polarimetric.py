"""The cases of family polarimetric."""

from __future__ import annotations

from hf_genmodels import PolarimetricPipeline
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import tiny_resnet

TRANSLATOR = {"width": 2, "discriminator_width": 2, "receptive_field": 16}
SMALL = TRANSLATOR | {"norm": "instance"}
RUN = TRANSLATOR | {"dataset_name": "builtin:polarimetric", "resolution": 8, "latent_dim": None, "random_flip": True}
CONE = {"output_head": "cone", "intensity_source": "input", "discriminator_input": "stokes", "identity_weight": 5.0}

CASE = FamilyCase(
    options="--resolution 8 --max_train_samples 32 --width 2 --discriminator_width 2 --receptive_field 16 "
    "--num_blocks 1 --norm batch --dataset_config_name 32 --random_flip",
    dataset_name="builtin:polarimetric",
    pipelines={
        "PolarimetricPipeline": lambda shape, scale: PolarimetricPipeline(tiny_resnet(shape, 4), value_scale=scale)
    },
    images_only=frozenset({"PolarimetricPipeline"}),
    equal={
        "polarimetric": Equal(
            SMALL | {"num_blocks": 1, "pool_size": 0, "paired_weight": 1.0, "cone_weight": 0.01},
            "builtin:polarimetric",
            8,
            float64=True,
        ),
        "cone": Equal(SMALL | CONE | {"num_blocks": 1, "pool_size": 0}, "builtin:polarimetric", 8, float64=True),
    },
    resumed={
        "polarimetric": RUN | {"num_blocks": 1, "dataset_config_name": "32"},
        "cone": RUN | CONE | {"num_blocks": 1, "dataset_config_name": "32"},
        "projected": RUN | {"num_blocks": 1, "project_translations": True, "cone_loss": "proximal"},
    },
)
