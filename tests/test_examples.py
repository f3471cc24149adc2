"""The scripts that people read first: short, and what they leave behind works."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from hf_genmodels import AutoPipeline
from tests.testing_utils.pipelines import draw
from tests.testing_utils.training import ROOT

SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


def test_there_is_one_each() -> None:
    assert [path.stem for path in SCRIPTS] == ["train_ddpm_by_hand", "train_gan_by_hand", "train_vae_by_hand"]


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
