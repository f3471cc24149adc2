"""`hf-genmodels convert`, and options of pipelines that work on images: exit status, one line, what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from hf_genmodels import (
    AutoPipeline,
    CycleGANPipeline,
    Pix2PixPipeline,
    PixelwiseGenerator,
    PixelwisePipeline,
    PolarimetricPipeline,
    ResNetTranslator,
)
from hf_genmodels.cli import main
from tests.testing_utils.translators import reference_resnet, reference_unet


def published(network: nn.Module, path: Path) -> str:
    torch.save(network.state_dict(), path)
    return str(path)


def as_tested(reference: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """As the authors test: norms in training mode, dropout off."""
    for module in reference.train().modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    with torch.no_grad():
        return (reference(images * 2 - 1) + 1) / 2


def test_a_published_unet_becomes_a_pipeline(tmp_path, capsys):
    reference, out = reference_unet(5, 2), tmp_path / "out"
    assert main(["convert", "pix2pix", published(reference, tmp_path / "net_G.pth"), str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"written to {out}\n" and printed.err == ""
    pipeline = AutoPipeline.from_pretrained(out)
    assert isinstance(pipeline, Pix2PixPipeline)
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made = pipeline(images, output_type="pt").images
    torch.testing.assert_close(made, as_tested(reference, images), atol=1e-5, rtol=0)


@pytest.mark.parametrize("direction", [[], ["--direction", "AtoB"], ["--direction", "BtoA"]])
def test_both_directions(tmp_path, direction):
    there, back = reference_resnet(1, 2, inp=3, out=1), reference_resnet(1, 2, inp=1, out=3)
    files = [published(there, tmp_path / "net_G_A.pth"), published(back, tmp_path / "net_G_B.pth")]
    first, second = files[::-1] if direction[1:] == ["BtoA"] else files
    out = tmp_path / "out"
    assert main(["convert", "cyclegan", first, str(out), *direction, "--reverse", second]) == 0
    pipeline = CycleGANPipeline.from_pretrained(out)
    for name, reference, channels in (("a_to_b", there, 3), ("b_to_a", back, 1)):
        images = torch.rand(1, channels, 16, 16, generator=torch.Generator().manual_seed(0))
        made = pipeline(images, direction=name, output_type="pt").images
        torch.testing.assert_close(made, as_tested(reference, images), atol=1e-5, rtol=0)


def test_mistakes_are_one_line(tmp_path, capsys):
    good = published(reference_resnet(0, 1), tmp_path / "net_G.pth")
    discriminator = published(nn.Sequential(nn.Conv2d(3, 2, 4)), tmp_path / "net_D.pth")
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(Path(good).read_bytes()[:200])
    for arguments, message in (
        (["pix2pix", str(tmp_path / "missing.pth"), "out"], f"{tmp_path / 'missing.pth'} is no file; give the .pth"),
        (["cyclegan", str(damaged), "out"], f"{damaged} is damaged, or holds other objects than weights"),
        (["cyclegan", discriminator, "out"], f"{discriminator}: 0.weight is no layer of a generator of pix2pix or"),
        (["pix2pix", good, "out", "--direction", "BtoA"], "pix2pix has one generator, of one direction; leave"),
        (["cyclegan", good, "out", "--direction", "BtoA"], "direction BtoA needs the generator from A to B as well"),
        (["cyclegan", good, "."], f"{tmp_path} exists and is no empty folder; choose another output folder"),
    ):
        arguments[2] = str(tmp_path / arguments[2])
        assert main(["convert", *arguments]) == 1
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.startswith(f"error: {message}"), printed.err
        assert printed.err.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_wrong_usage(capsys):
    for arguments in (["unit", "a.pth", "out"], ["pix2pix", "a.pth"], ["cyclegan", "a", "out", "--direction", "both"]):
        with pytest.raises(SystemExit) as stop:
            main(["convert", *arguments])
        assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        main(["convert", "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("pix2pix", "cyclegan", "--reverse", "--direction"))


# options of pipelines that work on images ----------------------------------------------------------------------------


def saved_polarimetric(folder: Path) -> None:
    torch.manual_seed(0)
    network = ResNetTranslator(3, 4, 16, width=2, num_blocks=1).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    PolarimetricPipeline(network).save_pretrained(folder)


def test_evaluate_with_and_without_projection(tmp_path, capsys):
    saved_polarimetric(tmp_path / "model")
    data = ["--dataset_name", "builtin:polarimetric", "--resolution", "16", "--metrics", "violations"]
    for project in ([], ["--project"]):
        assert main(["evaluate", str(tmp_path / "model"), *data, "--num_samples", "6", *project]) == 0
        assert "C2 median" in capsys.readouterr().out
    entries = json.loads((tmp_path / "model" / "metrics.json").read_text())["evaluation"]
    values = {(entry["name"], entry["settings"].get("project")): entry["value"] for entry in entries}
    assert values["C2", True] == 0 and values["C1", True] < 1e-6
    assert values["C2", None] > 0.01 and values["C1", None] > 0.01


def test_projection_is_for_polarimetric_images(tmp_path, capsys):
    main(["convert", "cyclegan", published(reference_resnet(0, 1), tmp_path / "net_G.pth"), str(tmp_path / "model")])
    capsys.readouterr()
    options = ["--dataset_name", "builtin:edges", "--metrics", "mse", "--project"]
    assert main(["evaluate", str(tmp_path / "model"), *options]) == 1
    expected = "error: --project: a CycleGANPipeline has no such option; leave it out\n"
    assert capsys.readouterr().err == expected


def test_evaluate_in_either_direction(tmp_path, capsys):
    torch.manual_seed(0)
    there, back = (ResNetTranslator(*channels, 16, width=2, num_blocks=1).eval() for channels in ((1, 3), (3, 1)))
    CycleGANPipeline(there, back).save_pretrained(tmp_path / "model")
    words = ["evaluate", str(tmp_path / "model"), "--dataset_name", "builtin:edges", "--resolution", "16"]
    words += ["--metrics", "mse", "--num_samples", "4"]
    for direction in ([], ["--direction", "b_to_a"]):
        assert main([*words, *direction]) == 0
    entries = json.loads((tmp_path / "model" / "metrics.json").read_text())["evaluation"]
    values = {entry["settings"]["direction"]: entry["value"] for entry in entries}
    assert set(values) == {"a_to_b", "b_to_a"} and values["a_to_b"] != values["b_to_a"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--direction", "AtoB"])
    assert stop.value.code == 2


def test_evaluate_from_known_pixels(tmp_path, capsys):
    torch.manual_seed(0)
    network = PixelwiseGenerator(1, 8, latent_channels=1, width=2, num_residual_blocks=1)
    PixelwisePipeline(network.eval()).save_pretrained(tmp_path / "model")
    words = ["evaluate", str(tmp_path / "model"), "--dataset_name", "builtin:digits", "--num_samples", "6"]
    for known in ([], ["--known_pixels", "0.2"]):
        assert main([*words, "--metrics", "constraints", "swd", "--extractor", "pixels", *known]) == 0
    entries = json.loads((tmp_path / "model" / "metrics.json").read_text())["evaluation"]
    names = ["constraint MSE", "constraints satisfied", "SWD"]
    assert [entry["name"] for entry in entries] == 2 * names
    assert [entry["settings"]["known_pixels"] for entry in entries] == [0.005] * 3 + [0.2] * 3


def test_nothing_to_sample_from(tmp_path, capsys):
    saved_polarimetric(tmp_path / "model")
    assert main(["sample", str(tmp_path / "model"), "--output_dir", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.endswith("PolarimetricPipeline has nothing to sample from: it takes images\n")
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()
