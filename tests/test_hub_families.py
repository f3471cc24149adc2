"""Every family over HTTP in fresh processes: pushed by training, sampled by `AutoPipeline`, trained further."""

from __future__ import annotations

from pathlib import Path

from tests.testing_utils.hub_server import TOKEN, HubServer, run_client

TRAIN = f"""
import importlib, sys
from tests.families import CASES
from tests.test_families import CLOSED_FORM, loop_options

for name, case in CASES.items():
    words = ["--dataset_name", case.dataset_name, "--output_dir", f"{{sys.argv[1]}}/{{name}}", *loop_options(name)]
    words += [*case.options.split(), *([] if name in CLOSED_FORM else ["--checkpointing_steps", "0"])]
    words += ["--push_to_hub", "--hub_model_id", f"tester/{{name}}", "--hub_token", "{TOKEN}"]
    importlib.import_module(f"hf_genmodels.training.train_{{name}}").main(words)
"""
SAMPLE = """
import torch
from hf_genmodels import AutoPipeline
from hf_genmodels.families import FAMILIES
from tests.testing_utils.pipelines import draw

for name, family in FAMILIES.items():
    if family.pipeline is not None:
        pipe = AutoPipeline.from_pretrained(f"tester/{name}")
        assert type(pipe).__name__ == family.pipeline
        images = draw(pipe, output_type="pt").images
        print(name, tuple(images.shape) == (3, *pipe.sample_shape), bool(images.isfinite().all()))
"""
GO_ON = """
import sys
from hf_genmodels.training.train_gan import main
from tests.families import CASES
from tests.test_families import LOOP

words = ["--dataset_name", "builtin:digits", "--output_dir", sys.argv[1], *LOOP.split(), *CASES["gan"].options.split()]
words += ["--pretrained_model_name_or_path", "tester/gan", "--learning_rate", "1e-12", "--checkpointing_steps", "0"]
main(words)
"""


def test_every_family_is_pushed_sampled_and_trained_further(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from hf_genmodels.families import FAMILIES

    weights = "training_networks/discriminator/diffusion_pytorch_model.safetensors"
    with HubServer() as server:
        run_client(TRAIN, server, tmp_path / "training", str(tmp_path))
        sampled = run_client(SAMPLE, server, tmp_path / "sampling").splitlines()
        assert sampled == [f"{name} True True" for name, family in FAMILIES.items() if family.pipeline]
        cached = [path.name for path in (tmp_path / "sampling").rglob("*") if "training_networks" in path.parts]
        assert not cached, "sampling downloads what only training needs"
        run_client(GO_ON, server, tmp_path / "going-on", str(tmp_path / "further"))
        assert server.files("tester/gan")[weights] == (tmp_path / "gan" / weights).read_bytes()
    before, after = load_file(tmp_path / "gan" / weights), load_file(tmp_path / "further" / weights)
    for name, value in before.items():
        assert (after[name] - value).abs().max() < 1e-6, name
