"""The cases of family pix2pix."""

from __future__ import annotations

from hf_genmodels import LabelMapPipeline, Pix2PixPipeline, UNetTranslator
from tests.testing_utils.cases import Equal, FamilyCase

TRANSLATOR = {"width": 2, "discriminator_width": 2, "receptive_field": 16}
SMALL = TRANSLATOR | {"norm": "instance"}
RUN = TRANSLATOR | {"dataset_name": "builtin:edges", "resolution": 8, "latent_dim": None, "random_flip": True}
SCENES = {"dataset_name": "builtin:polarimetric", "resolution": 8, "latent_dim": None, "random_flip": True}
STACKED = {"conditioning_image_columns": ["image", "target_image"], "target_image_column": "labels"}
LABELS = {
    "width": 2,
    "num_downs": 2,
    "dropout": 0.0,
    "target_kind": "labels",
    "adversarial_weight": 0.0,
    "dice_weight": 0.5,
    "class_weights": ["balanced"],
}
PENALISED = {"gan_loss": "wasserstein", "gradient_penalty": "wgan_gp"}

CASE = FamilyCase(
    options="--resolution 8 --max_train_samples 32 --width 2 --discriminator_width 2 --receptive_field 16 "
    "--num_downs 2 --random_flip",
    dataset_name="builtin:edges",
    pipelines={
        "Pix2PixPipeline": lambda shape, scale: Pix2PixPipeline(
            UNetTranslator(shape[0], shape[0], shape[1], width=2, num_downs=2), value_scale=scale
        ),
        "LabelMapPipeline": lambda shape, scale: LabelMapPipeline(
            UNetTranslator(shape[0], 3, shape[1], width=2, num_downs=2, output_head="logits"), source_value_scale=scale
        ),
    },
    images_only=frozenset({"LabelMapPipeline", "Pix2PixPipeline"}),
    equal={
        "pix2pix": Equal(SMALL | {"dropout": 0.0, "num_downs": 2}, "builtin:edges", 8, float64=True),
        "penalised pix2pix": Equal(
            SMALL | PENALISED | {"dropout": 0.0, "num_downs": 2},
            "builtin:edges",
            8,
            float64=True,
            of_one_process=frozenset({"discriminator/accuracy"}),
        ),
        "label maps": Equal(LABELS | {"norm": "instance"}, "builtin:polarimetric", 8, data=STACKED, float64=True),
    },
    resumed={"pix2pix": RUN | {"num_downs": 2}, "label maps": SCENES | STACKED | LABELS},
)
