"""Every family over HTTP in fresh processes: pushed by training, sampled by `AutoPipeline`, trained further."""

from __future__ import annotations

from pathlib import Path

from tests.testing_utils.hub_server import TOKEN, HubServer, run_client

TRAIN = f"""
import importlib, sys
from hf_genmodels.families import FAMILIES
from tests.test_families import CLOSED_FORM, OPTIONS, dataset_of, loop_options

for name, family in FAMILIES.items():
    words = ["--dataset_name", dataset_of(name), "--output_dir", f"{{sys.argv[1]}}/{{name}}", *loop_options(name)]
    words += [*OPTIONS[name].split(), *([] if name in CLOSED_FORM else ["--checkpointing_steps", "0"])]
    words += ["--push_to_hub", "--hub_model_id", f"tester/{{name}}", "--hub_token", "{TOKEN}"]
    importlib.import_module(family.script).main(words)
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
import importlib, sys
from hf_genmodels.families import FAMILIES
from tests.test_families import LOOP, OPTIONS

words = ["--dataset_name", "builtin:digits", "--output_dir", sys.argv[1], *LOOP.split(), *OPTIONS["gan"].split()]
words += ["--pretrained_model_name_or_path", "tester/gan", "--learning_rate", "1e-12", "--checkpointing_steps", "0"]
importlib.import_module(FAMILIES["gan"].script).main(words)
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
