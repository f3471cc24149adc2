"""Builds hf_genmodels, whose parts lie in folders of their own at the top of the repository.

`pipelines/`, `training/` and `model_cards/` are installed inside the package, so nothing with so common a name reaches
site-packages.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "hf_genmodels" / "__init__.py").read_text("utf-8"), re.MULTILINE
)
assert VERSION is not None, "hf_genmodels/__init__.py has no __version__"

FOLDERS = {
    "hf_genmodels.pipelines": "pipelines",
    "hf_genmodels.training": "training",
    "hf_genmodels.model_cards": "model_cards",
}

# PyYAML, tqdm and filelock come with huggingface-hub, Jinja2 with torch, pyarrow with datasets.
REQUIRED = [
    "torch>=2.10,<3",
    "diffusers>=0.42,<0.43",
    "transformers>=5.20,<6",
    "accelerate>=1.13,<2",
    "huggingface-hub>=2.4,<3",
    "datasets>=5.1,<6",
    "safetensors>=0.8",
    "numpy>=2.2,<3",
    "pillow>=12",
]

EXTRAS = {
    "metrics": ["scipy>=1.15", "torchmetrics>=1.8,<2"],
    "builtin": ["scikit-image>=0.25", "scikit-learn>=1.7"],
    "demo": ["tensorboard>=2.18"],
    "test": [
        "onnx>=1.23",
        "onnxruntime>=1.32",
        "onnxscript>=0.7.2",
        "pytest>=9",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "scipy>=1.15",
        "setuptools>=77.0.3",
        "wheel>=0.45",
    ],
    "quality": ["mypy>=2.4", "pre-commit>=4", "ruff>=0.17", "types-PyYAML"],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
# Outside "all": what the benchmarks compare with; torchvision, which is several GB where no CPU build is to be had.
EXTRAS["bench"] = ["clean-fid", "nflows", "normflows", "torch-fidelity", "zuko"]
EXTRAS["lpips"] = ["torchvision"]

setup(
    name="hf_genmodels",
    version=VERSION.group(1),
    description="Generative models for images, from autoencoders to diffusion, with the habits of diffusers",
    long_description=(ROOT / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    author="The hf_genmodels authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=[*find_packages(include=["hf_genmodels", "hf_genmodels.*"]), *FOLDERS],
    package_dir=FOLDERS,
    package_data={"hf_genmodels": ["py.typed"], "hf_genmodels.model_cards": ["*.md"]},
    python_requires=">=3.11",
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["hf-genmodels=hf_genmodels.cli:main"]},
)
