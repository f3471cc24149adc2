"""The scripts that people read first: short, and what they leave behind works."""

from __future__ import annotations

import math
import re
import runpy
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.distributions import Normal, kl_divergence

from hf_genmodels import AutoPipeline
from tests.testing_utils.pipelines import draw
from tests.testing_utils.training import ROOT

SCRIPTS = sorted((ROOT / "examples").glob("train_*_by_hand.py"))
PICTURES = sorted(set((ROOT / "examples").glob("*.py")) - set(SCRIPTS))


def test_there_is_one_each() -> None:
    assert [path.stem for path in SCRIPTS] == ["train_ddpm_by_hand", "train_gan_by_hand", "train_vae_by_hand"]
    names = [path.stem for path in PICTURES]
    assert names == ["critic_surfaces", "dirac_gan", "divergences", "perfect_discriminator"]
    page = (ROOT / "docs" / "lectures.md").read_text(encoding="utf-8")
    assert all(f"examples/{name}.py" in page and f"(pictures/{name}.png)" in page for name in names)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_trains_and_its_pipeline_loads(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 60 <= len(path.read_text().splitlines()) <= 80
    monkeypatch.setattr(sys, "argv", [str(path), "--output_dir", str(tmp_path / "run"), "--steps", "30"])
    runpy.run_path(str(path), run_name="__main__")
    first, last = re.findall(r"step \d+: \w+ (-?[\d.]+)", capsys.readouterr().out)
    assert float(last) < float(first)
    pipeline = AutoPipeline.from_pretrained(tmp_path / "run")
    pipeline.set_progress_bar_config(disable=True)
    few = {"num_inference_steps": 5} if "num_inference_steps" in pipeline.sampling_options else {}
    images = draw(pipeline, output_type="pt", **few).images
    assert images.shape == (3, 1, 8, 8) and images.isfinite().all() and torch.std(images) > 0
    assert pipeline.config.value_scale == 16
    assert (tmp_path / "run" / "samples.png").is_file()


@pytest.fixture(scope="module", params=PICTURES, ids=lambda path: path.stem)
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A picture that a script has drawn after two steps, and what it said."""
    folder = tmp_path_factory.mktemp("drawn") / "pictures"
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as said:
        patch.setattr(sys, "argv", [str(request.param), "--output_dir", str(folder), "--steps", "2"])
        runpy.run_path(str(request.param), run_name="__main__")
    return folder / f"{request.param.stem}.png", said.getvalue()


def test_a_picture_of_the_lectures(drawn: tuple[Path, str]) -> None:
    path, said = drawn
    *figures, place = said.splitlines()
    assert place == str(path) and figures and all(re.search(r"\d", line) for line in figures)
    with Image.open(path) as picture:
        assert min(picture.size) > 300 and len(picture.getcolors(2**24) or ()) > 100
    about = (ROOT / "examples" / f"{path.stem}.py").read_text(encoding="utf-8").split('"""')[1]
    assert re.search(r"arXiv \d{4}\.\d{5}", about) and "the course" in about
    for left, right in re.findall(r"loss of D\* ([\d.]+), by JS ([\d.]+)", said):  # theorem 1 of Goodfellow et al.
        assert float(left) == pytest.approx(float(right), abs=2e-4)


def test_the_fields_of_the_dirac_gan() -> None:
    """With s = sigmoid(psi theta), the losses' gradients by hand."""
    script = runpy.run_path(str(ROOT / "examples" / "dirac_gan.py"))
    theta, psi = torch.tensor([0.3, -1.2, 0.7]), torch.tensor([0.5, 0.4, -2.0])
    s, length = torch.sigmoid(psi * theta), theta.square() + psi.square()
    plain = torch.stack([psi * s, -theta * s], 1)
    both = torch.stack(
        [s.square() * (theta + length * (1 - s) * psi), s.square() * (psi + length * (1 - s) * theta)], 1
    )
    down = torch.stack([torch.zeros(3), psi], 1)
    expected = {
        "GAN, alternating steps": plain,
        "non-saturating GAN": torch.stack([psi * (1 - s), -theta * s], 1),
        "WGAN, weights clipped": torch.stack([psi, -theta], 1),
        "WGAN-GP": torch.stack([psi, -theta - 0.5 * (psi.abs() - 1) * psi.sign()], 1),
        "GAN, R1": plain - down,
        "GAN, R2": plain - down,
        "consensus, simultaneous steps": plain - both,
    }
    for name, field in expected.items():
        torch.testing.assert_close(script["descent"](script["PANELS"][name], theta, psi), field, rtol=1e-5, atol=1e-6)


def test_the_paths_of_the_dirac_gan() -> None:
    """Where they end after 500 steps, from sqrt(2): what the picture is there to show."""
    script = runpy.run_path(str(ROOT / "examples" / "dirac_gan.py"))
    ends = {name: script["path"](method, 500)[-1].norm().item() for name, method in script["PANELS"].items()}
    assert ends["GAN, simultaneous steps"] > 2
    assert ends["GAN, alternating steps"] == pytest.approx(2**0.5, abs=0.1)
    assert 0.1 < ends["non-saturating GAN"] < 0.6 and 0.3 < ends["WGAN, weights clipped"] < 0.8
    assert ends["WGAN-GP"] > 1
    arriving = ("GAN, instance noise", "GAN, R1", "GAN, R2", "consensus, simultaneous steps")
    assert max(ends[name] for name in arriving) < 1e-3


def test_divergences_are_integrals() -> None:
    script = runpy.run_path(str(ROOT / "examples" / "divergences.py"))
    p, q = Normal(0.5, 1.0), Normal(-0.4, 0.6)
    logs = p.log_prob(script["X"]), q.log_prob(script["X"])
    assert script["kl"](*logs).item() == pytest.approx(kl_divergence(p, q).item(), rel=1e-5)
    assert script["reverse_kl"](*logs).item() == pytest.approx(kl_divergence(q, p).item(), rel=1e-5)
    far = Normal(7.0, 0.1).log_prob(script["X"]), Normal(-7.0, 0.1).log_prob(script["X"])
    assert script["js"](*far).item() == pytest.approx(math.log(2), rel=1e-5)
    assert script["log_mixture"]().exp().sum().item() * script["STEP"] == pytest.approx(1, rel=1e-5)
    noisy = runpy.run_path(str(ROOT / "examples" / "perfect_discriminator.py"))["noisy_js"](torch.tensor([0.0, 4.0]))
    assert noisy.tolist() == pytest.approx([0, math.log(2)], abs=1e-3)
