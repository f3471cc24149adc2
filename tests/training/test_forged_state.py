"""Checkpoints whose files are as their manifest says and hold what no run has saved: one line, nothing executed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_genmodels.training.train_vae import main
from tests.testing_utils.forging import forge, put, sign
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import interrupted, options


class Executed:
    """What a pickle does when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


VAE = ("optimizers", "vae")
CASES: list[tuple[str, Callable[[Any], Any]]] = [
    *(
        (name, change)
        for name in ("state.pt", "process-0.pt")
        for change in (lambda _: [], lambda _: None, lambda _: {})
    ),
    ("state.pt", put("step", value=None)),
    ("state.pt", put("step", value="ten")),
    ("state.pt", put("step", value=-1)),
    ("state.pt", put("step", value=9)),
    ("state.pt", put("consumed", value=1.5)),
    ("state.pt", put("seconds", value="long")),
    ("state.pt", put("history", value=[1])),
    ("state.pt", put("history", value={"loss": "low"})),
    ("state.pt", put("history", value={"loss": [(1, "low")]})),
    ("state.pt", put("optimizers", value=None)),
    ("state.pt", put("optimizers", value={})),
    ("state.pt", put(*VAE, "param_groups", value=[])),
    ("state.pt", put(*VAE, "param_groups", 0, "betas", value="0.9")),
    ("state.pt", put(*VAE, "param_groups", 0, "params", value=[0])),
    ("state.pt", put(*VAE, "state", value=[])),
    ("state.pt", put(*VAE, "state", 0, value={"exp_avg": torch.zeros(3)})),
    ("state.pt", put(*VAE, "state", 0, value={"exp_avg": "zero"})),
    ("process-0.pt", put("random", value=None)),
    ("process-0.pt", put("random", "cpu", value=torch.zeros(3))),
    ("process-0.pt", put("random", "cpu", value="dice")),
    ("process-0.pt", put("objective", value=None)),
    ("process-0.pt", put("recorded", value={"loss": 3})),
]


@pytest.mark.parametrize(("name", "change"), CASES)
def test_state_that_no_run_has_saved(finished: Path, tmp_path: Path, name: str, change: Callable[[Any], Any]) -> None:
    run = tmp_path / "run"
    for step in (5, 10):
        interrupted(finished, step, run)
    forge(run / "checkpoint-10", name, change)
    with refused(f"checkpoint-10/{name} does not hold what a checkpoint of this run holds") as error:
        main(options(run, resume_from_checkpoint="latest"))
    assert f"--resume_from_checkpoint {run / 'checkpoint-5'}" in str(error.value)
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint-10", "checkpoint-5"]


@pytest.mark.parametrize("name", ["state.pt", "process-0.pt"])
def test_files_that_torch_cannot_or_must_not_read(finished: Path, tmp_path: Path, name: str) -> None:
    run = interrupted(finished, 10, tmp_path / "run")
    path = run / "checkpoint-10" / name
    whole = path.read_bytes()
    torch.save({"step": Executed(tmp_path / "executed")}, path)
    code = path.read_bytes()
    for content in (
        code,
        b"",
        b"\x80\x02}q\x00.",
        b"cposix\nsystem\n.",
        whole[: len(whole) // 2],
        b"PK\x05\x06" + bytes(18),
    ):
        path.write_bytes(content)
        sign(run / "checkpoint-10", name)
        with refused(f"checkpoint-10/{name} does not hold what a checkpoint of this run holds") as error:
            main(options(run, resume_from_checkpoint="latest"))
        assert "weights_only" not in str(error.value)
    assert not (tmp_path / "executed").exists()


def test_another_networks_weights(finished: Path, tmp_path: Path) -> None:
    run = interrupted(finished, 10, tmp_path / "run")
    main(options(tmp_path / "other", latent_dim=3, max_train_steps=10))
    for name in ("networks/vae/config.json", "networks/vae/diffusion_pytorch_model.safetensors"):
        (run / "checkpoint-10" / name).write_bytes((tmp_path / "other" / "checkpoint-10" / name).read_bytes())
        sign(run / "checkpoint-10", name)
    with refused("checkpoint-10/networks/vae does not hold what a checkpoint of this run holds"):
        main(options(run, resume_from_checkpoint="latest"))


@pytest.mark.parametrize("name", ["state.pt", "process-0.pt"])
def test_files_that_no_manifest_names(finished: Path, tmp_path: Path, name: str) -> None:
    checkpoint = interrupted(finished, 10, tmp_path / "run") / "checkpoint-10"
    manifest = json.loads((checkpoint / "checkpoint.json").read_text())
    del manifest["files"][name]
    (checkpoint / "checkpoint.json").write_text(json.dumps(manifest))
    (checkpoint / name).unlink()
    with refused(f"{checkpoint / name} is missing"):
        main(options(tmp_path / "run", resume_from_checkpoint="latest"))


@pytest.mark.parametrize("value", [{"state.pt": 3}, {"state.pt": {"size": "x", "sha256": ""}}, 3], ids=str)
@pytest.mark.parametrize("key", ["files", "frozen", "run"])
def test_forged_manifests(finished: Path, tmp_path: Path, key: str, value: Any) -> None:
    checkpoint = interrupted(finished, 10, tmp_path / "run") / "checkpoint-10"
    manifest = json.loads((checkpoint / "checkpoint.json").read_text())
    (checkpoint / "checkpoint.json").write_text(json.dumps(manifest | {key: value}))
    with refused(f"{checkpoint}"):
        main(options(tmp_path / "run", resume_from_checkpoint="latest"))
