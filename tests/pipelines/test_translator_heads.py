"""Pipelines refuse translators whose last layer makes something else."""

import pytest

from hf_genmodels import (
    CycleGANPipeline,
    LabelMapPipeline,
    Pix2PixPipeline,
    PolarimetricPipeline,
    ResNetTranslator,
)
from hf_genmodels.pipelines.translation import check_head
from tests.testing_utils.refusals import refused


def translator(head):
    return ResNetTranslator(3, 4, sample_size=8, width=2, num_blocks=0, output_head=head)


@pytest.mark.parametrize("pipeline", [Pix2PixPipeline, CycleGANPipeline, PolarimetricPipeline])
def test_logits_are_no_images(pipeline):
    pipeline(translator("tanh"))
    with refused("output_head 'logits', and this pipeline needs images; LabelMapPipeline takes it"):
        pipeline(translator("logits"))


def test_images_are_no_logits():
    LabelMapPipeline(translator("logits"))
    with refused("generator has output_head 'tanh', and this pipeline needs logits of classes"):
        LabelMapPipeline(translator("tanh"))


def test_networks_that_do_not_tell_are_taken():
    class Own:
        config = {"out_channels": 4}

    for makes_labels in (True, False):
        check_head("generator", Own(), makes_labels)
        check_head("generator_ba", None, makes_labels)
