"""The template of docs/own_families.md: copied, installed, listed, trained, sampled, measured, loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from hf_genmodels.families import OURS, Registry
from tests.testing_utils.fresh import run_python
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import ROOT, same_bytes

SMALL = "--dataset_name builtin:digits --latent_dim 2 --width 8 --train_batch_size 16 --num_threads 1 --log_steps 1"
# what else users do, in one process: resume, train further, load, sample, measure, describe
AFTERWARDS = """
import sys, torch
from hf_genmodels import AutoPipeline
from hf_genmodels.cli import main
from hf_genmodels.training.entry import train_family

folder, options = sys.argv[1], sys.argv[2:]
more = ["--max_train_steps", "4", "--resume_from_checkpoint", "latest"]
train_family("energy", [*options, "--output_dir", f"{folder}/resumed", *more])
more = ["--max_train_steps", "1", "--pretrained_model_name_or_path", f"{folder}/whole"]
train_family("energy", [*options, "--output_dir", f"{folder}/further", *more])
pipe = AutoPipeline.from_pretrained(f"{folder}/whole")
samples = pipe(batch_size=3, generator=torch.Generator().manual_seed(0), output_type="pt").images
print("loaded", type(pipe).__name__, tuple(samples.shape), bool(samples.isfinite().all()))
measure = "--dataset_name builtin:digits --metrics swd --extractor pixels --num_samples 50"
assert main(["sample", f"{folder}/whole", "--num_samples", "2", "--output_dir", f"{folder}/samples"]) == 0
assert main(["evaluate", f"{folder}/whole", *measure.split()]) == 0
assert main(["card", f"{folder}/whole"]) == 0
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a copy of the template is installed."""
    folder = tmp_path_factory.mktemp("template")
    shutil.copytree(ROOT / "docs" / "family_template", folder / "source")
    install = "-m pip install --quiet --no-index --no-deps --no-build-isolation --disable-pip-version-check --target"
    subprocess.run([sys.executable, *install.split(), str(folder / "site"), str(folder / "source")], check=True)
    return folder / "site"


def run(site: Path, *words: str) -> str:
    """The standard output of Python with the template's package installed."""
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    done = run_python(*words, cwd=site.parent, environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_knows_a_family_of_another_package(site: Path) -> None:
    folder, options = site.parent / "runs", [*SMALL.split(), "--checkpointing_steps", "2"]
    assert "energy            genmodels_energy.pipeline:EnergyPipeline" in run(site, "-m", "hf_genmodels.cli", "list")
    assert "--exponent EXPONENT" in run(site, "-m", "hf_genmodels.cli", "train", "energy", "--help")
    train = ["-m", "hf_genmodels.cli", "train", "energy", *options, "--output_dir", str(folder / "whole")]
    run(site, *train, "--max_train_steps", "4")
    card = (folder / "whole" / "README.md").read_text()
    assert "trained by the energy distance between its samples" in card
    assert "\nhf-genmodels train energy --dataset_name builtin:digits" in card
    assert json.loads((folder / "whole" / "metrics.json").read_text())["family"] == "energy"

    shutil.copytree(folder / "whole" / "checkpoint-2", folder / "resumed" / "checkpoint-2")
    printed = run(site, "-c", AFTERWARDS, str(folder), *options)
    assert "loaded EnergyPipeline (3, 1, 8, 8) True\n" in printed
    assert same_bytes(folder / "whole" / "generator", folder / "resumed" / "generator")
    assert (folder / "further" / "model_index.json").is_file() and (folder / "samples" / "00001.png").is_file()
    assert "SWD" in (folder / "whole" / "README.md").read_text()


def registry(name: str, value: str) -> Registry:
    """A registry with one family of another package."""
    families = Registry()
    families.others = {name: EntryPoint(name, value, "hf_genmodels.families")}
    return families


def test_families_that_cannot_be_used_say_so() -> None:
    with refused("family lost: no_such_package:FAMILY cannot be imported: No module named 'no_such_package'"):
        registry("lost", "no_such_package:FAMILY")["lost"]
    with refused("family odd: json:dumps is no Family of that name; see docs/own_families.md"):
        registry("odd", "json:dumps")["odd"]
    with refused("family mine: hf_genmodels.families.gan:FAMILY is no Family of that name"):
        registry("mine", "hf_genmodels.families.gan:FAMILY")["mine"]


def test_a_family_that_cannot_be_used_stands_in_nobodys_way(caplog: pytest.LogCaptureFixture) -> None:
    families = registry("lost", "no_such_package:FAMILY")
    assert "lost" in families and [family.name for family in families.usable()] == list(OURS)
    assert "family lost: no_such_package:FAMILY cannot be imported" in caplog.text


def test_a_family_of_a_name_that_is_taken_is_left_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("gan", "no_such_package:FAMILY", "hf_genmodels.families")
    monkeypatch.setattr("hf_genmodels.families.entry_points", lambda group: [entry])
    assert Registry()["gan"].pipeline == "GANPipeline"
