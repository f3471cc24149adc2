"""Feature extractors: what FID, KID, precision/recall and the inception score look at an image with."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError

import torch
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from torch import Tensor
from torch.nn.functional import interpolate

from ..errors import UserError
from ..files import sha256
from ..folders import resolve_folder
from ..loading import load_network
from ..models.classifier import Classifier
from ..sizes import SampleSize, height_width


class Extracted(NamedTuple):
    """Features (batch, dim) and, from a classifier, p(y|x) of shape (batch, classes)."""

    features: Tensor
    probabilities: Tensor | None


@dataclass(frozen=True)
class Extractor:
    """Images in [0, 1] -> features, and what has to be said about them next to every number made from them.

    Any function can be one: `Extractor("my network", network=lambda images: Extracted(net(images), None))`.

    Args:
        name: What the results call it.
        network: Takes (batch, in_channels, height, width) in [0, 1] (or whatever arrives, where these are
            None) and returns `Extracted`. Moves its input to where its weights are.
        weights_sha256: SHA-256 of the weights file; None without weights.
        in_channels: Channels the network takes; grey images are repeated to that many. None: any, and vectors too.
        sample_size: Height and width it takes, one number for a square; other images are resized, bilinear with
            antialiasing. None: any.
        own_resize: What `network` itself does to the size, in words.
        has_probabilities: Whether `network` also returns class probabilities.
    """

    name: str
    network: Callable[[Tensor], Extracted]
    weights_sha256: str | None = None
    in_channels: int | None = None
    sample_size: SampleSize | None = None
    own_resize: str | None = None
    has_probabilities: bool = False

    def describe(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """The settings that go with results on examples of this shape, (channels, height, width) or (dim,).

        Returns:
            "extractor", "weights_sha256", "resize", and "channels" where grey was repeated.

        Raises:
            UserError: The extractor cannot take examples of this shape.
        """
        description = {"extractor": self.name, "weights_sha256": self.weights_sha256, "resize": self.own_resize}
        if self.in_channels is None:
            return description
        if len(shape) != 3:
            raise UserError(
                f"extractor {self.name} takes images, the data are vectors of {shape[0]}; use --extractor pixels"
            )
        channels, height, width = shape
        if channels not in (1, self.in_channels):
            raise UserError(
                f"extractor {self.name} takes {self.in_channels} channels, the data have {channels}; "
                "train a classifier on this data set or use --extractor pixels"
            )
        if channels != self.in_channels:
            description["channels"] = f"{channels} repeated to {self.in_channels}"
        if self.sample_size is not None and (height, width) != (size := height_width(self.sample_size)):
            description["resize"] = f"bilinear {height}x{width} to {size[0]}x{size[1]}"
        return description

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        """Features of (batch, channels, height, width) in [0, 1], or of vectors (batch, dim).

        Raises:
            UserError: The extractor cannot take examples of this shape.
        """
        self.describe(tuple(images.shape[1:]))
        images = images.float()
        if self.in_channels is not None:
            images = images.expand(-1, self.in_channels, -1, -1)
        if self.sample_size is not None and images.shape[2:] != (size := height_width(self.sample_size)):
            images = interpolate(images, size=size, mode="bilinear", antialias=True)
        return self.network(images)


def load_extractor(spec: str, device: torch.device | str = "cpu") -> Extractor:
    """Find an extractor by name.

    Args:
        spec: "pixels" (the values themselves), "inception" (torch-fidelity's InceptionV3), or the folder or Hub id of
            a `Classifier`, which may also lie in the subfolder `classifier` of it.
        device: Where the network runs.

    Raises:
        UserError: There is no such extractor, what it needs is not installed, or its files are not those of a whole
            `Classifier` in safetensors.
    """
    if spec == "pixels":
        return Extractor("pixels", network=lambda images: Extracted(images.flatten(1), None))
    if spec == "inception":
        return _inception(torch.device(device))
    return _classifier(spec, torch.device(device))


def _classifier_folder(spec: str) -> Path:
    try:
        folder = resolve_folder(spec)
    except UserError as error:
        raise UserError(f"--extractor: {error}") from None
    if not (folder / "config.json").is_file() and (folder / "classifier" / "config.json").is_file():
        return folder / "classifier"
    return folder


def _classifier(spec: str, device: torch.device) -> Extractor:
    folder = _classifier_folder(spec)
    classifier = load_network(Classifier, folder).to(device)

    def network(images: Tensor) -> Extracted:
        output = classifier(2 * images.to(device) - 1)
        return Extracted(output.features, output.logits.softmax(dim=1))

    return Extractor(
        # a path says nothing to the reader of a card, and the hash identifies the weights
        Path(spec).resolve().name if Path(spec).is_dir() else spec,
        network=network,
        weights_sha256=sha256(folder / SAFETENSORS_WEIGHTS_NAME),
        in_channels=classifier.config.in_channels,
        sample_size=classifier.config.sample_size,
        has_probabilities=True,
    )


def _inception(device: torch.device) -> Extractor:
    """InceptionV3 with the weights of the original FID code, as torch-fidelity and torchmetrics use it."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
    except ModuleNotFoundError as error:
        raise UserError(
            "extractor inception needs torch-fidelity, which is not installed: pip install torch-fidelity, "
            "or train a classifier on the data set and pass its folder"
        ) from error
    weights = Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(URL_INCEPTION_V3)
    try:
        inception = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"])
    except URLError as error:
        raise UserError(
            f"extractor inception: its weights could not be downloaded ({error.reason}); "
            f"put {weights.name} in {weights.parent}"
        ) from error
    inception = inception.to(device)

    def network(images: Tensor) -> Extracted:
        features, logits = inception((images.to(device).clamp(0, 1) * 255).round().byte())
        return Extracted(features, logits.softmax(dim=1))

    return Extractor(
        "inception-v3-compat",
        network=network,
        weights_sha256=sha256(weights),
        in_channels=3,
        own_resize="bilinear (TensorFlow 1) to 299x299",
        has_probabilities=True,
    )
