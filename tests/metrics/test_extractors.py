from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import interpolate

from hf_genmodels.errors import UserError
from hf_genmodels.metrics.extractors import Extracted, Extractor, load_extractor
from hf_genmodels.models.classifier import Classifier
from hf_genmodels.models.vae import VAE
from tests.testing_utils.refusals import refused

WEIGHTS = "diffusion_pytorch_model.safetensors"


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(in_channels=3, sample_size=16, num_classes=5, block_out_channels=(8, 16), feature_dim=12).eval()


@pytest.fixture
def folder(classifier: Classifier, tmp_path: Path) -> Path:
    classifier.save_pretrained(tmp_path / "judge")
    return tmp_path / "judge"


@pytest.mark.parametrize(("channels", "size", "widths"), [(1, 8, (4, 8)), (4, 9, (4, 8, 16)), (3, 28, (8,))])
def test_classifier_takes_any_channels_and_sizes(channels: int, size: int, widths: tuple[int, ...]) -> None:
    model = Classifier(channels, size, num_classes=7, block_out_channels=widths, feature_dim=10)
    output = model(torch.rand(2, channels, size, size))
    assert output.logits.shape == (2, 7)
    assert output.features.shape == (2, 10)
    assert model(torch.rand(2, channels, size, size), return_dict=False)[1].shape == (2, 10)


def test_classifier_judges_each_image_alone(classifier: Classifier) -> None:
    batch = 2 * images(4, 3, 16, 16) - 1
    alone = classifier.train()(batch[2:3])
    torch.testing.assert_close(classifier(batch).features[2:3], alone.features)
    torch.testing.assert_close(classifier.head(alone.features), alone.logits)


def test_classifier_refuses_what_it_cannot_take(classifier: Classifier) -> None:
    with pytest.raises(UserError, match="sample_size 7 is too small"):
        Classifier(sample_size=7)
    with pytest.raises(UserError, match="too small for 4 stride-2 blocks"):
        Classifier(sample_size=8, block_out_channels=(4, 4, 4, 4))
    with pytest.raises(UserError, match="shape"):
        classifier(torch.rand(2, 1, 16, 16))


def test_pixels_are_the_values() -> None:
    pixels = load_extractor("pixels")
    batch, vectors = images(3, 2, 4, 4), torch.randn(3, 2)
    assert torch.equal(pixels(batch).features, batch.flatten(1))
    assert torch.equal(pixels(vectors).features, vectors)
    assert pixels.describe((2, 4, 4)) == {"extractor": "pixels", "weights_sha256": None, "resize": None}
    assert not pixels.has_probabilities


def test_classifier_as_extractor(classifier: Classifier, folder: Path) -> None:
    extractor = load_extractor(str(folder))
    batch = images(4, 3, 16, 16)
    features, probabilities = extractor(batch)
    expected = classifier(2 * batch - 1)
    torch.testing.assert_close(features, expected.features)
    torch.testing.assert_close(probabilities, expected.logits.softmax(1))
    assert not features.requires_grad
    sha256 = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    assert extractor.describe((3, 16, 16)) == {"extractor": "judge", "weights_sha256": sha256, "resize": None}


def test_grey_images_of_another_size(classifier: Classifier, folder: Path) -> None:
    extractor = load_extractor(str(folder))
    batch = images(4, 1, 28, 28)
    resized = interpolate(batch.repeat(1, 3, 1, 1), size=(16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(extractor(batch).features, classifier(2 * resized - 1).features)
    description = extractor.describe((1, 28, 28))
    assert description["resize"] == "bilinear 28x28 to 16x16"
    assert description["channels"] == "1 repeated to 3"


@pytest.mark.parametrize(("shape", "message"), [((2, 16, 16), "takes 3 channels, the data have 2"), ((7,), "vectors")])
def test_data_that_the_extractor_cannot_take(folder: Path, shape: tuple[int, ...], message: str) -> None:
    extractor = load_extractor(str(folder))
    with pytest.raises(UserError, match=message):
        extractor.describe(shape)
    with pytest.raises(UserError, match=message):
        extractor(torch.zeros(2, *shape))


def test_classifier_in_a_subfolder(classifier: Classifier, folder: Path, tmp_path: Path) -> None:
    classifier.save_pretrained(tmp_path / "run" / "classifier")
    found = load_extractor(str(tmp_path / "run"))
    assert found.name == "run"
    assert found.weights_sha256 == load_extractor(str(folder)).weights_sha256


def test_a_function_can_be_an_extractor() -> None:
    extractor = Extractor("mean", network=lambda batch: Extracted(batch.mean((2, 3)), None))
    batch = images(5, 4, 6, 6)
    torch.testing.assert_close(extractor(batch).features, batch.mean((2, 3)))


def rewrite(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        change(weights)
        save_file(weights, folder / WEIGHTS)

    return spoil


def halve(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def to_pickle(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "diffusion_pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def to_vae(folder: Path) -> None:
    VAE(sample_size=8, block_out_channels=(4, 8)).save_pretrained(folder)


SPOILT = {
    "missing": (rewrite(lambda weights: weights.pop("head.bias")), "missing keys.*head.bias"),
    "unexpected": (rewrite(lambda weights: weights.update(extra=torch.ones(1))), "unexpected keys.*extra"),
    "misshapen": (rewrite(lambda weights: weights.update({"head.bias": torch.ones(3)})), "head.bias"),
    "truncated": (halve, WEIGHTS),
    "pickle": (to_pickle, f"no file named {WEIGHTS}"),
    "other class": (to_vae, "holds a VAE, not a Classifier"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_classifier_that_is_not_whole_is_refused(folder: Path, how: str) -> None:
    spoil, message = SPOILT[how]
    spoil(folder)
    with refused(message):
        load_extractor(str(folder))


def test_there_is_no_such_extractor(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        load_extractor(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="nobody/nothing"):
        load_extractor("nobody/nothing")


@pytest.mark.skipif(importlib.util.find_spec("torch_fidelity") is not None, reason="torch-fidelity is installed")
def test_inception_without_its_package_is_one_line() -> None:
    with refused("inception needs torch-fidelity, which is not installed"):
        load_extractor("inception")
