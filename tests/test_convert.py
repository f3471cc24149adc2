import argparse
import json
import os
import pickle

import pytest
import torch
from torch import nn

from hf_genmodels.convert import command, convert
from hf_genmodels.errors import UserError
from hf_genmodels.models.resnet_translator import ResNetTranslator
from hf_genmodels.models.unet_translator import UNetTranslator
from hf_genmodels.pipelines.auto import AutoPipeline
from hf_genmodels.pipelines.cyclegan import CycleGANPipeline
from hf_genmodels.pipelines.pix2pix import Pix2PixPipeline
from hf_genmodels.training.train_cyclegan import main as train_cyclegan
from tests.testing_utils.refusals import refused
from tests.testing_utils.translators import reference_patch_discriminator, reference_resnet, reference_unet


def published(network, tmp_path, name="net_G.pth", change=None):
    """A network's `.pth` file."""
    state = network.state_dict()
    if change is not None:
        state = change(dict(state))
    torch.save(state, tmp_path / name)
    return tmp_path / name


def sample(channels, size):
    return torch.rand(1, channels, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def as_tested(reference, images):
    """What the authors' test script shows, but for dropout: networks stay in training mode."""
    for module in reference.train().modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    with torch.no_grad():
        return reference(images)


def assert_translates(pipeline_call, reference, channels, size):
    """The pipeline takes and gives [0, 1], the network [-1, 1]."""
    images = sample(channels, size)
    expected = (as_tested(reference, images) + 1) / 2
    actual = pipeline_call((images + 1) / 2, output_type="pt").images
    assert expected.std() > 0.02
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


# the layers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_downs", "norm", "channels"), [(8, "batch", (3, 3)), (7, "instance", (1, 2)), (5, "none", (3, 1))]
)
def test_unets(tmp_path, num_downs, norm, channels):
    reference = reference_unet(num_downs, 3, norm, inp=channels[0], out=channels[1])
    folder = convert("pix2pix", published(reference, tmp_path), tmp_path / "out")
    assert folder == tmp_path / "out"
    pipeline = AutoPipeline.from_pretrained(folder)
    assert isinstance(pipeline, Pix2PixPipeline)
    assert isinstance(pipeline.generator, UNetTranslator)
    config = pipeline.generator.config
    assert (config.num_downs, config.width, config.norm, config.dropout) == (num_downs, 3, norm, 0.5)
    assert (config.in_channels, config.out_channels, config.sample_size) == (*channels, 2**num_downs)
    assert_translates(pipeline, reference, channels[0], 2**num_downs)


@pytest.mark.parametrize(
    ("num_blocks", "norm", "dropout"),
    [(9, "instance", False), (6, "instance", True), (1, "batch", False), (1, "batch", True), (0, "none", False)],
)
def test_residual_generators(tmp_path, num_blocks, norm, dropout):
    reference = reference_resnet(num_blocks, 3, norm, dropout, inp=2, out=1)
    convert("cyclegan", published(reference, tmp_path), tmp_path / "out")
    pipeline = AutoPipeline.from_pretrained(tmp_path / "out")
    assert isinstance(pipeline, CycleGANPipeline)
    assert pipeline.generator_ba is None
    assert isinstance(pipeline.generator_ab, ResNetTranslator)
    config = pipeline.generator_ab.config
    has_dropout = dropout and num_blocks > 0
    assert (config.num_blocks, config.width, config.norm, config.dropout) == (num_blocks, 3, norm, 0.5 * has_dropout)
    assert (config.in_channels, config.out_channels, config.layout) == (2, 1, "cyclegan")
    assert_translates(pipeline, reference, 2, 32)


def test_either_generator_in_either_pipeline(tmp_path):
    resnet, unet = reference_resnet(1, 2), reference_unet(5, 2, "instance")
    convert("pix2pix", published(resnet, tmp_path), tmp_path / "pix2pix")
    assert_translates(Pix2PixPipeline.from_pretrained(tmp_path / "pix2pix"), resnet, 3, 16)
    convert("cyclegan", published(unet, tmp_path), tmp_path / "cyclegan")
    pipeline = CycleGANPipeline.from_pretrained(tmp_path / "cyclegan")
    assert pipeline.generator_ab.config.dropout == 0
    assert_translates(pipeline, unet, 3, 32)


# what files of several years look like -----------------------------------------------------------------------------


def data_parallel(state):
    return {f"module.{name}": value for name, value in state.items()}


def with_instance_statistics(state):
    """As PyTorch 0.3 saved instance norms: model.2 follows model.1, and so on."""
    for layer, channels in (("model.2", 3), ("model.10.conv_block.2", 12), ("model.12", 6)):
        state[f"{layer}.running_mean"] = torch.randn(channels)
        state[f"{layer}.running_var"] = torch.ones(channels)
        state[f"{layer}.num_batches_tracked"] = torch.tensor(3)
    return state


@pytest.mark.parametrize("change", [data_parallel, with_instance_statistics])
def test_older_files_of_instance_norm(tmp_path, change):
    reference = reference_resnet(1, 3)
    convert("cyclegan", published(reference, tmp_path, change=change), tmp_path / "out")
    pipeline = CycleGANPipeline.from_pretrained(tmp_path / "out")
    assert pipeline.generator_ab.config.norm == "instance"
    assert_translates(pipeline, reference, 3, 16)


def test_older_files_of_batch_norm(tmp_path):
    reference = reference_unet(5, 2)

    def without_counters(state):
        return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}

    path = tmp_path / "old.pth"
    torch.save(without_counters(reference.state_dict()), path, _use_new_zipfile_serialization=False)
    convert("pix2pix", path, tmp_path / "out")
    generator = Pix2PixPipeline.from_pretrained(tmp_path / "out").generator
    images = sample(3, 32)
    torch.testing.assert_close(generator(images).sample, as_tested(reference, images), atol=1e-5, rtol=0)
    averages = {name: value for name, value in generator.state_dict().items() if "running" in name}
    expected = {name: value for name, value in reference_unet(5, 2).state_dict().items() if "running" in name}
    for ours, theirs in zip(averages.values(), expected.values(), strict=True):
        assert torch.equal(ours, theirs)


# directions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_two_generators_make_both_directions(tmp_path, direction):
    there, back = reference_resnet(1, 2, inp=3, out=1), reference_resnet(2, 2, inp=1, out=3)
    files = published(there, tmp_path, "net_G_A.pth"), published(back, tmp_path, "net_G_B.pth")
    first, second = files if direction == "AtoB" else files[::-1]
    convert("cyclegan", first, tmp_path / "out", direction=direction, reverse=second)
    pipeline = CycleGANPipeline.from_pretrained(tmp_path / "out")
    images = sample(3, 16)
    torch.testing.assert_close(pipeline.generator_ab(images).sample, as_tested(there, images), atol=1e-5, rtol=0)
    images = sample(1, 16)
    torch.testing.assert_close(pipeline.generator_ba(images).sample, as_tested(back, images), atol=1e-5, rtol=0)


def test_command(tmp_path, capsys):
    path = published(reference_resnet(0, 2), tmp_path)
    out = tmp_path / "out"
    command(argparse.Namespace(kind="cyclegan", checkpoint=path, output_dir=out, direction="AtoB", reverse=None))
    assert capsys.readouterr().out == f"written to {out}\n"
    assert json.loads((out / "model_index.json").read_text())["_class_name"] == "CycleGANPipeline"


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("unit", {}, "kind 'unit' is unknown; choose one of: pix2pix, cyclegan"),
        ("cyclegan", {"direction": "b_to_a"}, "direction 'b_to_a' is unknown; choose one of: AtoB, BtoA"),
        ("cyclegan", {"direction": "BtoA"}, "direction BtoA needs the generator from A to B as well"),
        ("pix2pix", {"direction": "BtoA"}, "pix2pix has one generator"),
        ("pix2pix", {"reverse": "net_G.pth"}, "pix2pix has one generator"),
    ],
)
def test_impossible_options(tmp_path, kind, options, message):
    path = published(reference_resnet(0, 1), tmp_path)
    with pytest.raises(UserError, match=message):
        convert(kind, path, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_nothing_is_overwritten(tmp_path, kind):
    path = published(reference_resnet(0, 1), tmp_path)
    target = tmp_path if kind == "folder" else path
    with pytest.raises(UserError, match="exists and is no empty folder; choose another output folder"):
        convert("cyclegan", path, target)
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "empty").mkdir()
    convert("cyclegan", path, tmp_path / "empty")
    assert (tmp_path / "empty" / "model_index.json").is_file()


# bad files ---------------------------------------------------------------------------------------------------------


def assert_refused(path, message):
    out = path.parent / "out"
    with refused(message) as caught:
        convert("pix2pix", path, out)
    assert str(caught.value).startswith(str(path))
    assert not out.exists()


def cut(state, *names):
    return {name: value for name, value in state.items() if not name.startswith(names)}


def small_unet():
    return reference_unet(5, 2)


def small_resnet():
    return reference_resnet(5, 2)


@pytest.mark.parametrize(
    ("build", "change", "message"),
    [
        (lambda: reference_patch_discriminator(70, 2), None, "0.weight is no layer of a generator"),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 2, 3)),
            lambda state: {f"model.{name}": value for name, value in state.items()},
            "model.0.weight is no layer of a generator of pix2pix or CycleGAN",
        ),
        (
            small_unet,
            lambda state: cut(state, "model.model.1."),
            "model.model.0.weight is no layer of a generator",
        ),
        (small_unet, lambda state: cut(state, "model.model.3."), "model.model.3 is no convolution"),
        (
            small_unet,
            lambda state: {**state, "model.model.0.weight": torch.zeros(2)},
            "model.model.0 is no convolution",
        ),
        (
            small_unet,
            lambda state: {**state, "model.model.1.model.1.weight": torch.zeros(4, 2, 3, 3)},
            r"model.1.weight is of shape \(4, 2, 3, 3\), but in a UNetTranslator of its width of \(4, 2, 4, 4\)",
        ),
        (
            small_unet,
            lambda state: cut(state, "model.model.1.model.6.running_var"),
            "model.model.1.model.6.running_var is missing, which a UNetTranslator of its depth has",
        ),
        (
            small_unet,
            lambda state: {**state, "model.model.1.model.9.weight": torch.zeros(2)},
            "model.model.1.model.9.weight has no place in a UNetTranslator",
        ),
        (small_resnet, lambda state: cut(state, "model.22"), "model.22 is no convolution"),
        (
            small_resnet,
            lambda state: cut(state, "model.11."),
            "model.12.conv_block.1.weight has no place in a ResNetTranslator",
        ),
        (
            small_resnet,
            lambda state: cut(state, "model.12.conv_block.5.bias"),
            "model.12.conv_block.5.bias is missing, which a ResNetTranslator of its depth has",
        ),
        (
            small_resnet,
            lambda state: {**state, "model.2.weight": torch.zeros(2)},
            "model.2.weight has no place in a ResNetTranslator",
        ),
    ],
)
def test_other_layers_are_named(tmp_path, build, change, message):
    assert_refused(published(build(), tmp_path, change=change), message)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "holds no state dict"),
        ([torch.zeros(2)], "holds no state dict"),
        (torch.zeros(2), "holds no state dict"),
        ({"epoch": 3}, "holds no state dict: 'epoch' is a int, no tensor"),
        ({"generator": {"model.1.weight": torch.zeros(2)}}, "holds no state dict: 'generator' is a dict"),
        ({0: torch.zeros(2)}, "holds no state dict: 0 is a Tensor"),
    ],
)
def test_files_of_other_things(tmp_path, value, message):
    torch.save(value, tmp_path / "other.pth")
    assert_refused(tmp_path / "other.pth", message)


class Harmful:
    """Runs a command where it is unpickled without care."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_not_run(tmp_path):
    path = tmp_path / "net_G.pth"
    torch.save({"model.1.weight": Harmful(tmp_path / "made")}, path)
    assert_refused(path, "or holds other objects than weights, which are not loaded")
    path.write_bytes(pickle.dumps(Harmful(tmp_path / "made"), protocol=2))
    assert_refused(path, "or holds other objects than weights, which are not loaded")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("keep", [0, 10, 1000])
@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files(tmp_path, keep, zipped):
    path = tmp_path / "net_G.pth"
    torch.save(reference_resnet(0, 1).state_dict(), path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:keep])
    assert_refused(path, "is damaged, or holds other objects than weights")


def test_missing_files(tmp_path):
    assert_refused(tmp_path / "net_G.pth", "is no file; give the .pth file of a generator")
    (tmp_path / "folder").mkdir()
    assert_refused(tmp_path / "folder", "is no file")


# training further ----------------------------------------------------------------------------------------------------


def test_a_converted_generator_can_be_trained_further(tmp_path, capsys):
    reference = reference_resnet(1, 2, inp=1, out=3)
    folder = convert("cyclegan", published(reference, tmp_path), tmp_path / "converted")
    options = "--dataset_name builtin:edges --resolution 16 --max_train_samples 8 --max_train_steps 1 "
    options += "--receptive_field 16 --discriminator_width 2 --num_threads 1"
    words = ["--pretrained_model_name_or_path", str(folder), "--output_dir", str(tmp_path / "run")]
    train_cyclegan([*options.split(), *words])
    missing = "generator_ba, discriminator_a, discriminator_b"
    assert f"{folder} holds no {missing}: built anew, to be trained from the beginning" in capsys.readouterr().out
    pipeline = CycleGANPipeline.from_pretrained(tmp_path / "run")
    assert pipeline.generator_ba.config.in_channels == 3
    before = CycleGANPipeline.from_pretrained(folder).generator_ab.state_dict()
    steps = [(value - before[name]).abs().max() for name, value in pipeline.generator_ab.state_dict().items()]
    assert 0 < max(steps) < 1e-3
