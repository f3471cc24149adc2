from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.testing_utils.fresh import run_python

ROOT = Path(__file__).resolve().parent.parent
LOAD = """
import sys, hf_genmodels
from hf_genmodels import VAEPipeline
assert hf_genmodels.__file__.startswith(sys.argv[1]), hf_genmodels.__file__
images = VAEPipeline.from_pretrained("out")(batch_size=2, output_type="pt").images
assert images.shape == (2, 1, 8, 8), images.shape
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools writes beside its sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES.values():
        shutil.copytree(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    return next(out.glob("*.whl"))


# where the wheel has it -> where the repository has it
PACKAGES = {
    "hf_genmodels": "hf_genmodels",
    "hf_genmodels/pipelines": "pipelines",
    "hf_genmodels/training": "training",
    "hf_genmodels/model_cards": "model_cards",
}


def test_wheel_holds_every_module_and_card_and_nothing_else(wheel: Path) -> None:
    expected = {"hf_genmodels/py.typed"}
    for inside, folder in PACKAGES.items():
        for pattern in ("**/*.py", "*.md"):  # the cards of reference runs stay in the repository
            files = (path.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).glob(pattern))
            expected |= {f"{inside}/{name}" for name in files}
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == expected
    assert {name.split("/")[0] for name in names} == {"hf_genmodels"}
    assert "hf_genmodels/model_cards/vae.md" in names


def test_wheel_metadata(wheel: Path) -> None:
    import hf_genmodels

    archive = zipfile.ZipFile(wheel)
    folder = f"hf_genmodels-{hf_genmodels.__version__}.dist-info"
    metadata = archive.read(f"{folder}/METADATA").decode()
    assert "hf-genmodels = hf_genmodels.cli:main" in archive.read(f"{folder}/entry_points.txt").decode()
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert len(required) == 9
    assert "torchvision" not in " ".join(required)
    extras = {line.split()[1] for line in metadata.splitlines() if line.startswith("Provides-Extra:")}
    assert extras >= {"metrics", "builtin", "demo", "test", "quality", "bench", "all"}
    everything = [line for line in metadata.splitlines() if line.endswith('extra == "all"')]
    assert not any(name in line for line in everything for name in ("torchvision", "nflows", "normflows", "zuko"))


def test_wheel_trains_saves_and_reloads_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    library, work = tmp_path / "library", tmp_path / "work"
    zipfile.ZipFile(wheel).extractall(library)
    work.mkdir()
    environment = os.environ | {"PYTHONPATH": str(library)}
    options = ["--dataset_name", "builtin:digits", "--max_train_steps", "2", "--output_dir", "out"]
    for command in (["-m", "hf_genmodels.training.train_vae", *options], ["-c", LOAD, str(library)]):
        done = run_python(*command, cwd=work, environment=environment)
        assert done.returncode == 0, done.stderr
    assert (work / "out" / "model_index.json").is_file()
    assert (work / "out" / "README.md").read_text(encoding="utf-8").startswith("---\n")
