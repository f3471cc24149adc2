"""Mixed precision, compilation, threads and averages."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._inductor.config
from accelerate import Accelerator

from hf_genmodels.families import FAMILIES
from hf_genmodels.training import train_avae
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.ema import AveragedNetwork
from hf_genmodels.training.entry import make_accelerator, make_run
from hf_genmodels.training.health import DATA_WAIT
from hf_genmodels.training.train_vae import main
from tests.testing_utils.adversaries import Adversaries, TinyNetwork, make_loop
from tests.testing_utils.family_runs import RUNS, build, load
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import ROOT, largest_difference, options, same_bytes, script, weights


def test_bf16_leaves_weights_and_double_backward_in_float32(tmp_path: Path) -> None:
    objective = Adversaries()
    loop = make_loop(objective, tmp_path, mixed_precision="bf16", use_ema=True, checkpointing_steps=4)
    loop.run(None)
    types = {phase: dtype for phase, *_, dtype in objective.seen}
    assert types == {"critic": torch.float32, "generator": torch.bfloat16, "lazy": torch.bfloat16}
    for part in ("networks/generator", "networks/critic", "ema/generator"):
        assert {value.dtype for value in weights(tmp_path / "checkpoint-4" / part).values()} == {torch.float32}


def test_float32_without_mixed_precision(tmp_path: Path) -> None:
    objective = Adversaries()
    make_loop(objective, tmp_path).run(None)
    assert {dtype for *_, dtype in objective.seen} == {torch.float32}


def test_a_bf16_run_of_a_script(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(options(tmp_path / "run", mixed_precision="bf16"))
    assert "bf16 mixed precision" in capsys.readouterr().out
    assert {value.dtype for value in weights(tmp_path / "run" / "vae").values()} == {torch.float32}
    assert 0 < largest_difference(finished / "vae", tmp_path / "run" / "vae") < 0.1


def test_fp16_on_a_cpu_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with refused("--mixed_precision fp16"):
        main(options(tmp_path / "run", mixed_precision="fp16"))
    assert not (tmp_path / "run").exists()


def test_processes_that_do_not_find_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")  # as the launcher sets it for two GPUs, with none there
    with refused("^2 processes were launched, .* set ACCELERATE_USE_CPU=true"):
        main(options(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ACCELERATE_USE_FSDP", "true", "FSDP is not supported"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "DeepSpeed is not supported"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "Megatron-LM is not supported"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "true", "a parallelism_config is not supported"),
        ("ACCELERATE_MIXED_PRECISION", "fp8", "fp8 is not supported; give --mixed_precision bf16"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "dynamo_backend inductor is not supported.* give --compile"),
    ],
)
def test_what_the_launcher_was_told_and_the_loop_does_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with refused(said):
        main(options(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_launchers_accumulation_divides_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    main(options(tmp_path / "run", optimizer="sgd", max_train_steps=2))
    monkeypatch.delenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
    main(options(tmp_path / "other", optimizer="sgd", max_train_steps=2))
    assert same_bytes(tmp_path / "run" / "vae", tmp_path / "other" / "vae")


@pytest.fixture
def tf32() -> Iterator[tuple[Any, Any]]:
    """PyTorch's switches for matrix products and convolutions, as it has them."""
    matmul, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolutions.allow_tf32
    yield matmul, convolutions
    matmul.allow_tf32, convolutions.allow_tf32 = before


@pytest.mark.parametrize("given", [False, True])
def test_tf32_is_as_pytorch_has_it_until_it_is_asked_for(tmp_path: Path, tf32: tuple[Any, Any], given: bool) -> None:
    matmul, convolutions = tf32
    for is_on in (False, True):
        matmul.allow_tf32, convolutions.allow_tf32 = is_on, not is_on
        make_accelerator(TrainingArguments(output_dir=str(tmp_path), allow_tf32=given))
        assert (matmul.allow_tf32, convolutions.allow_tf32) == (is_on or given, not is_on or given)


@pytest.fixture
def fresh_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing compiled so far, and no pool of processes for a few small networks."""
    if shutil.which("c++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with torch._inductor.config.patch(compile_threads=1):
        yield
    torch._dynamo.reset()


def test_compiled_phases_train_as_the_others(
    fresh_compiler: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    plain = Adversaries(critic_updates=1)
    compiled = copy.deepcopy(plain)
    changes = {"max_train_steps": 2, "checkpointing_steps": 2}
    make_loop(plain, tmp_path / "plain", **changes).run(None)
    assert torch._dynamo.utils.counters["frames"]["ok"] == 0
    loop = make_loop(compiled, tmp_path / "compiled", **changes, compile=True)
    loop.run(None)
    assert torch._dynamo.utils.counters["frames"]["ok"] >= 1
    is_compiled = {
        (phase, name): isinstance(view, torch._dynamo.eval_frame.OptimizedModule)
        for phase, views in loop.phase_networks.views.items()
        for name, view in views.items()
    }
    assert len(is_compiled) == 6
    assert all(value == (phase != "critic") for (phase, _), value in is_compiled.items())
    assert "phase critic differentiates a gradient: it is not compiled" in capsys.readouterr().out
    for name in ("generator", "critic"):
        part = f"checkpoint-2/networks/{name}"
        assert not any("_orig_mod" in key for key in weights(tmp_path / "compiled" / part))
        assert largest_difference(tmp_path / "compiled" / part, tmp_path / "plain" / part) < 1e-5


def test_each_network_is_compiled_once_for_each_part_that_it_plays(fresh_compiler: None, tmp_path: Path) -> None:
    """Phases turn gradients on and off: a network is one graph where it is trained and one where it is frozen."""
    graphs = []

    class Counting(Adversaries):
        def before_step(self, step: int) -> None:
            super().before_step(step)
            graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])

    make_loop(Counting(critic_updates=1, every=1), tmp_path, max_train_steps=5, compile=True).run(None)
    assert graphs == [0, 3, 3, 3, 3]  # no phase that is compiled calls the generator frozen


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, (family, _) in RUNS.items() if not FAMILIES[family].is_fitted])
def test_a_compiled_family_trains_as_it_does_uncompiled(fresh_compiler: None, tmp_path: Path, name: str) -> None:
    data, reached = load(name), []
    for compiled in (False, True):
        args = TrainingArguments(str(tmp_path), train_batch_size=8, max_train_steps=3, log_steps=1, learning_rate=1e-3)
        args.compile, args.checkpointing_steps, args.num_threads = compiled, 0, 1
        args.optimizer = "sgd"  # Adam makes steps of gradients that are rounding
        loop = make_run(build(name, data.spec), data, args, Accelerator(), {})
        loop.prepare(None)
        loop.learn()
        curves = {key: points for key, points in loop.history.items() if key != DATA_WAIT}  # a time
        reached.append({(key, step): value for key, points in curves.items() for step, value in points})
    assert torch._dynamo.utils.counters["frames"]["ok"] >= 1 or all(
        phase.double_backward for phase in loop.objective.phases
    )
    assert reached[1] == pytest.approx(reached[0], rel=2e-3, abs=1e-4)


def test_a_compiled_run_of_a_family_with_several_phases(fresh_compiler: None, tmp_path: Path) -> None:
    arguments = "--dataset_name builtin:toy2d --architecture mlp --hidden_dims 4 --latent_dim 1 --num_threads 1 "
    arguments += "--train_batch_size 16 --max_train_steps 2 --checkpointing_steps 2 --latent_warmup_steps 0"
    train_avae.main([*arguments.split(), "--output_dir", str(tmp_path / "plain")])
    assert torch._dynamo.utils.counters["frames"]["ok"] == 0
    train_avae.main([*arguments.split(), "--output_dir", str(tmp_path / "compiled"), "--compile"])
    assert torch._dynamo.utils.counters["frames"]["ok"] >= 4  # one for each network in the phase that trains it
    for name in ("encoder", "decoder", "generator", "discriminator"):
        part = f"checkpoint-2/networks/{name}"
        assert not any("_orig_mod" in key for key in weights(tmp_path / "compiled" / part))
        assert largest_difference(tmp_path / "compiled" / part, tmp_path / "plain" / part) < 1e-5


@pytest.mark.parametrize("processes", [1, 2, 1000])
def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, processes: int) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(cores + 2)
    make_accelerator(TrainingArguments(output_dir=str(tmp_path)))
    assert torch.get_num_threads() == max(1, cores // processes)
    make_accelerator(TrainingArguments(output_dir=str(tmp_path), num_threads=3))
    assert torch.get_num_threads() == 3


def test_a_launchers_single_thread_is_not_obeyed(tmp_path: Path) -> None:
    arguments = options(tmp_path / "run", num_threads=None, max_train_steps=1, checkpointing_steps=0)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # read when torch is imported, which forks have done
    done = subprocess.run(script("vae", arguments), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    first = done.stdout.splitlines()[0]
    assert re.fullmatch(
        r"vae \(vae 0\.0014 M\) on builtin:digits: 1442 examples, 1 steps; "
        rf"1 process\(es\) x {cores} thread\(s\), \w+, no mixed precision",
        first,
    ), first


def test_averages_follow_parameters_and_batch_statistics_by_the_formula() -> None:
    torch.manual_seed(0)
    network = TinyNetwork(batch_norm=True)
    args = TrainingArguments(output_dir="", ema_max_decay=0.55, ema_inv_gamma=2.0, ema_power=0.5)
    average = AveragedNetwork(network, args)
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    for update in range(12):
        network(torch.randn(16, 2) + update)
        for parameter in network.parameters():
            parameter.data += torch.randn_like(parameter)
        average.update(network)
        # as diffusers has it: the first update copies, the second one's decay is 1 - (1 + 1 / gamma)^-power
        decay = min(0.55, 1 - (1 + update / 2.0) ** -0.5)
        for name, value in network.state_dict().items():
            counted = not value.is_floating_point()  # batches that were seen
            expected[name] = value.clone() if counted else decay * expected[name] + (1 - decay) * value
        for name, value in average.network.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


def test_the_saved_model_is_the_average(tmp_path: Path) -> None:
    main(options(tmp_path / "run", use_ema=True, ema_max_decay=0.9, norm="batch"))
    checkpoint = tmp_path / "run" / "checkpoint-20"
    assert largest_difference(tmp_path / "run" / "vae", checkpoint / "ema" / "vae") == 0
    raw, average = weights(checkpoint / "networks" / "vae"), weights(checkpoint / "ema" / "vae")
    counts = [name for name in raw if name.endswith("num_batches_tracked")]
    assert counts
    assert all(torch.equal(raw[name], average[name]) for name in counts)
    assert largest_difference(checkpoint / "networks" / "vae", checkpoint / "ema" / "vae") > 1e-3
