"""Small training runs: their options, their processes, what they leave behind."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from .fresh import ROOT, run_python

SMALL: dict[str, Any] = {
    "dataset_name": "builtin:digits",
    "block_out_channels": (4, 8),
    "latent_dim": 2,
    "norm": "none",
    "num_threads": 1,
    "train_batch_size": 32,
    "learning_rate": 0.01,
    "max_train_steps": 20,
    "checkpointing_steps": 5,
}
DEADLINE_SECONDS = 240


def options(output_dir: Path, **changes: Any) -> list[str]:
    """The command line of a small run; None leaves an option out."""
    words = ["--output_dir", str(output_dir)]
    for name, value in {**SMALL, **changes}.items():
        if value is not None:
            words += [f"--{name}", *map(str, value if isinstance(value, (tuple, list)) else [value])]
    return words


def script(family: str, arguments: list[str]) -> list[str]:
    """The command that runs a family's script in a process of its own."""
    return [sys.executable, f"training/train_{family}.py", *arguments]


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `script` to its end."""
    return run_python(*command[1:], environment={**os.environ, **environment}, timeout=DEADLINE_SECONDS)


def launch_two(family: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a script in two CPU processes, the way README.md tells users to."""
    return launch_two_of([f"training/train_{family}.py", *arguments])


def launch_two_of(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a file, or `-m` and a module, with its arguments in two CPU processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", str(port), *words]
    return run(command, ACCELERATE_USE_CPU="true", GLOO_SOCKET_IFNAME="lo")


def kill_after_checkpoints(command: list[str], output_dir: Path, more: int, seconds: float) -> None:
    """Start a run, wait for `more` new checkpoints and a little longer, and end it with SIGKILL."""
    before = len(list(output_dir.glob("checkpoint-*")))
    deadline = time.monotonic() + DEADLINE_SECONDS
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while len(list(output_dir.glob("checkpoint-*"))) < before + more:
            assert still_running(process, 0.002), process.stderr.read().decode()  # type: ignore[union-attr]
            assert time.monotonic() < deadline, "no checkpoint was written"
        assert still_running(process, seconds), "the run was over before it could be killed"
    finally:
        process.kill()
        process.communicate()


def still_running(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether a process does not end within this time."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def weights(folder: Path) -> dict[str, Tensor]:
    """The tensors that `save_pretrained` wrote."""
    return load_file(folder / "diffusion_pytorch_model.safetensors")


def same_bytes(ours: Path, theirs: Path) -> bool:
    """Whether two folders of `save_pretrained` hold the same weights, bit for bit."""
    name = "diffusion_pytorch_model.safetensors"
    return (ours / name).read_bytes() == (theirs / name).read_bytes()


def largest_difference(ours: Path, theirs: Path, but: str | None = None) -> float:
    """Between two folders' weights, of all but those whose names end in `but`."""
    first, second = weights(ours), weights(theirs)
    assert first.keys() == second.keys()
    names = [name for name in first if but is None or not name.endswith(but)]
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in names)


def history(output_dir: Path) -> Any:
    """Figures at the end of a run, without what depends on the clock."""
    metrics = json.loads((output_dir / "metrics.json").read_text())
    return metrics["step"], metrics["train"], metrics["validation"]


def networks_of(folder: Path) -> list[Path]:
    """Folders of all saved networks below `folder`, relative to it."""
    return sorted(file.parent.relative_to(folder) for file in folder.rglob("diffusion_pytorch_model.safetensors"))


def assert_same_run(whole: Path, other: Path, step: int) -> None:
    """Networks, averages and the objective's state of the last checkpoint, the model, the figures."""
    last = f"checkpoint-{step}"
    for part in (".", last):
        names = [name for name in networks_of(whole / part) if part != "." or "checkpoint" not in str(name)]
        assert names == [name for name in networks_of(other / part) if part != "." or "checkpoint" not in str(name)]
        assert names
        for name in names:
            assert same_bytes(whole / part / name, other / part / name), name
    own = [torch.load(run / last / "process-0.pt", weights_only=True)["objective"] for run in (whole, other)]
    torch.testing.assert_close(*own, rtol=0, atol=0)
    states = [torch.load(run / last / "state.pt", weights_only=True) for run in (whole, other)]
    assert states[0]["consumed"] == states[1]["consumed"]
    assert states[0]["history"] == states[1]["history"]
    assert history(whole) == history(other)


def interrupted(finished: Path, step: int, output_dir: Path) -> Path:
    """An output folder as a run that was stopped right after a checkpoint leaves it."""
    shutil.copytree(finished / f"checkpoint-{step}", output_dir / f"checkpoint-{step}")
    return output_dir


def flip_a_bit(path: Path) -> None:
    """Change a file as a disk may."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def write_pictures(folder: Path, count: int = 48, size: int = 8, channels: int = 1) -> Path:
    """A folder of images that have a left and a right side."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(count):
        pixels = draw.integers(0, 256, (size, size, channels), dtype=np.uint8)
        pixels[:, : size // 2] //= 4
        Image.fromarray(pixels.squeeze()).save(folder / f"{number:03}.png")
    return folder


def dice(name: str) -> random.Random:
    """Random numbers that a failed test can be repeated with: the seed is printed."""
    seed = int(os.environ.get("HF_GENMODELS_TEST_SEED", time.time_ns() % 1_000_000))
    print(f"{name}: HF_GENMODELS_TEST_SEED={seed}")
    return random.Random(seed)
