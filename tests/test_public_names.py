"""Names that other people's code uses, and what importing costs."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import diffusers
import pytest
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin

import hf_genmodels
from hf_genmodels import GenerativePipeline
from hf_genmodels.families import FAMILIES

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"hf_genmodels": "hf_genmodels", "pipelines": "hf_genmodels.pipelines", "training": "hf_genmodels.training"}
FILES = {
    ".".join([package, *path.relative_to(ROOT / folder).with_suffix("").parts]).removesuffix(".__init__"): path
    for folder, package in FOLDERS.items()
    for path in sorted((ROOT / folder).rglob("*.py"))
}


@pytest.fixture(scope="module")
def modules() -> dict[str, ModuleType]:
    return {name: importlib.import_module(name) for name in FILES}


@pytest.mark.parametrize("name", hf_genmodels.__all__)
def test_public_name_can_be_imported(name):
    assert getattr(hf_genmodels, name) is not None
    assert name in dir(hf_genmodels)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'hf_genmodels' has no attribute 'StyleGAN3'"):
        _ = hf_genmodels.StyleGAN3
    with pytest.raises(ImportError):
        from hf_genmodels import StyleGAN3  # noqa: F401


def test_type_checkers_see_the_same_names():
    """The names under TYPE_CHECKING are those that are imported lazily."""
    tree = ast.parse(FILES["hf_genmodels"].read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imported = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported | {"__version__"} == set(hf_genmodels.__all__)


HEAVY = ("torch", "diffusers", "transformers", "accelerate", "datasets", "numpy", "PIL", "huggingface_hub")
LIGHT = f"print(*[name for name in {HEAVY!r} if name in sys.modules])"


@pytest.mark.parametrize(
    "statement",
    [
        "import hf_genmodels",
        "from hf_genmodels import FAMILIES, UserError",
        "import hf_genmodels.cli",
        "from hf_genmodels import FAMILIES; list(FAMILIES.values())",
    ],
)
def test_importing_is_light(statement):
    command = [sys.executable, "-c", f"import sys; {statement}; {LIGHT}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_help_of_a_family_needs_no_networks():
    statement = "from hf_genmodels.cli import main; main(['train', 'gan', '--help'])"
    command = [sys.executable, "-c", f"import sys; {statement}; print(); {LIGHT}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--discriminator_norm" in done.stdout
    assert set(done.stdout.splitlines()[-1].split()).isdisjoint({"torch", "diffusers", "accelerate", "datasets"})


def is_complete(kind: type) -> bool:
    """Whether a network or pipeline can be built: what only others are derived from has no constructor of its own."""
    return "__init__" in vars(kind)


def test_pipelines_are_named_after_their_family(modules):
    classes = {
        (name, value)
        for module in modules.values()
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, GenerativePipeline) and is_complete(value)
    }
    assert {name for name, _ in classes} == {name for family in FAMILIES.values() for name in family.pipelines}
    for name, pipeline in classes:
        stem = pipeline.__module__.split(".")[-1]
        assert pipeline.__module__ == f"hf_genmodels.pipelines.{stem}"
        assert name.lower() == f"{stem.replace('_', '')}pipeline"
        assert name in hf_genmodels.__all__
        assert any(name in family.pipelines for family in FAMILIES.values())
        assert stem not in FAMILIES or FAMILIES[stem].pipeline == name


def test_networks_and_pipelines_are_public(modules):
    bases = (ModelMixin, SchedulerMixin, DiffusionPipeline)
    for module in modules.values():
        for name, value in vars(module).items():
            ours = inspect.isclass(value) and issubclass(value, bases) and value.__module__ == module.__name__
            if ours and is_complete(value):
                assert getattr(hf_genmodels, name, None) is value, f"{module.__name__}.{name} is not exported"


def test_no_module_is_taken_for_one_of_diffusers(modules):
    """Diffusers reads a component's parent folder as one of its own pipelines where it has one of that name."""
    for name in modules:
        parent = name.split(".")[-2] if "." in name else name
        assert getattr(diffusers.pipelines, parent, None) is None, f"{name}: diffusers.pipelines has a {parent}"
    assert getattr(diffusers.pipelines, "ddpm", None) is not None
