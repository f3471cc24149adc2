from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from diffusers import ModelMixin
from torch import Tensor

from hf_genmodels import VAE
from hf_genmodels.data import DataArguments, TrainingBatches, load_data
from hf_genmodels.errors import UserError
from hf_genmodels.keyed import noise_seed
from hf_genmodels.objectives.base import Batch, Noise, Phase
from hf_genmodels.objectives.vae import VAEObjective
from hf_genmodels.training import checkpointing
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.checks import check_machine, count_steps
from hf_genmodels.training.loop import TrainingLoop
from hf_genmodels.training.state import identity
from tests.testing_utils.adversaries import Adversaries, adversarial_losses, make_loop
from tests.testing_utils.training import same_bytes, weights


def states(objective: Adversaries) -> dict[str, dict[str, Tensor]]:
    return {name: copy.deepcopy(network.state_dict()) for name, network in objective.networks.items()}


def by_hand(objective: Adversaries, loop: TrainingLoop) -> None:
    """The phases of `Adversaries` in plain PyTorch: four steps, Adam, no accumulation."""
    critic, generator = objective.networks["critic"], objective.networks["generator"]
    optimizers = {
        "critic": torch.optim.AdamW(critic.parameters(), lr=0.01, weight_decay=0),
        "generator": torch.optim.AdamW(generator.parameters(), lr=0.01, weight_decay=0),
    }
    batches = TrainingBatches(loop.data.train, batch_size=8, seed=0).start(0)
    for step in range(4):
        batch: Batch = {}
        for phase, (name, trained, updates) in enumerate(
            [("critic", "critic", 5), ("generator", "generator", 1), ("lazy", "critic", 1)]
        ):
            if name == "lazy" and step % 2:
                continue
            for update in range(updates):
                batch = batch if name == "lazy" else next(batches)
                noise = Noise(noise_seed(0, step, phase, update))
                losses = adversarial_losses(name, generator, critic, batch["image"], noise.normal, noise.uniform)
                critic.zero_grad()
                generator.zero_grad()
                losses["loss"].backward()
                optimizers[trained].step()


def test_phases_equal_a_loop_written_by_hand(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = Adversaries()
    theirs = copy.deepcopy(ours)
    before = states(ours)
    loop = make_loop(ours, tmp_path)
    loop.run(None)
    by_hand(theirs, loop)
    for name, expected in states(theirs).items():
        for key, value in expected.items():
            torch.testing.assert_close(ours.networks[name].state_dict()[key], value, rtol=0, atol=1e-7)
            assert (value != before[name][key]).any()
    assert ours.updates == 4 * 6 + 2


def test_phases_run_when_they_should_on_the_batches_they_declare(tmp_path: Path) -> None:
    objective = Adversaries(critic_updates=3, every=3)
    loop = make_loop(objective, tmp_path, max_train_steps=7)
    loop.run(None)
    fresh = TrainingBatches(loop.data.train, batch_size=8, seed=0).start(0)
    expected: list[tuple[str, int, list[int]]] = []
    for step in range(7):
        for name in ("critic", "critic", "critic", "generator"):
            expected.append((name, step, next(fresh)["index"].tolist()))
        if step % 3 == 0:
            expected.append(("lazy", step, expected[-1][2]))
    assert [entry[:3] for entry in objective.seen] == expected
    assert loop.consumed == 7 * 4


def test_only_the_networks_of_the_phase_take_gradients(tmp_path: Path) -> None:
    class Watching(Adversaries):
        def after_update(self, phase: Phase, networks: dict[str, ModelMixin], noise: Noise, gather: Any) -> None:
            super().after_update(phase, networks, noise, gather)
            for name, network in networks.items():
                now = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
                if name in phase.trains:
                    assert all(gradient is not None for gradient in now)
                    self.gradients[name] = now
                else:  # what its own phase left, nothing added
                    left = self.gradients.get(name, [None] * len(now))
                    assert all(
                        mine is theirs or torch.equal(mine, theirs) for mine, theirs in zip(now, left, strict=True)
                    )

    objective = Watching()
    objective.gradients = {}
    make_loop(objective, tmp_path).run(None)
    assert {(phase, *trained) for phase, _, _, trained, _ in objective.seen} == {
        ("critic", "critic"),
        ("generator", "generator"),
        ("lazy", "critic"),
    }


def test_frozen_networks_stay_as_they_are(tmp_path: Path) -> None:
    class Watching(Adversaries):
        def after_update(self, phase: Phase, networks: dict[str, ModelMixin], noise: Noise, gather: Any) -> None:
            super().after_update(phase, networks, noise, gather)
            now = states(self)
            for name in now:
                moved = any((now[name][key] != self.last[name][key]).any() for key in now[name])
                assert moved == (name in phase.trains)
            self.last = now

    objective = Watching()
    objective.last = states(objective)
    make_loop(objective, tmp_path, adam_weight_decay=0.1).run(None)
    assert objective.updates == 26


def test_phases_share_a_cache_within_a_step_and_micro_batch(tmp_path: Path) -> None:
    class Caching(Adversaries):
        def losses(
            self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
        ) -> dict[str, Tensor]:
            cache.setdefault("seen", []).append((phase.name, self.step))
            if phase.name == "generator":
                assert cache["seen"] == [("critic", self.step)] * 2 + [("generator", self.step)]
            return super().losses(phase, networks, batch, noise, cache)

    objective = Caching(critic_updates=2)
    make_loop(objective, tmp_path, gradient_accumulation_steps=2).run(None)
    assert Counter(phase for phase, *_ in objective.seen) == {"critic": 16, "generator": 8, "lazy": 4}


def test_passes_over_the_data(tmp_path: Path) -> None:
    objective = Adversaries(critic_updates=3, every=1)
    loop = make_loop(objective, tmp_path, max_train_steps=None, num_train_epochs=3)
    assert loop.total_steps == 6  # 64 points are 8 batches, of which a step takes 4
    loop.run(None)
    taken = Counter(i for phase, _, indices, *_ in objective.seen for i in indices if phase != "lazy")
    assert taken == dict.fromkeys(range(64), 3)
    args = loop.args
    args.gradient_accumulation_steps = 2
    assert count_steps(objective, args, 8) == 3
    args.num_train_epochs = 1
    assert count_steps(Adversaries(critic_updates=2), args, 9) == 2  # the last step begins the next pass
    args.max_train_steps = 77
    assert count_steps(objective, args, 8) == 77


def test_dropout_and_the_objectives_own_state_resume_exactly(tmp_path: Path) -> None:
    changes = {"checkpointing_steps": 3, "max_train_steps": 6, "use_ema": True}
    torch.manual_seed(0)
    whole = Adversaries(dropout=0.5, batch_norm=True)
    start = copy.deepcopy(whole)
    make_loop(whole, tmp_path / "run", **changes).run(None)

    resumed = copy.deepcopy(start)
    torch.manual_seed(99)
    make_loop(resumed, tmp_path / "resumed", **changes).run(tmp_path / "run" / "checkpoint-3")
    assert resumed.updates == whole.updates == 6 * 6 + 3
    parts = [f"networks/{name}" for name in ("generator", "critic")] + ["ema/generator"]
    for part in parts:
        assert same_bytes(*(tmp_path / run / "checkpoint-6" / part for run in ("run", "resumed")))


@pytest.mark.parametrize("at", [4, 5])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, at: int) -> None:
    class Broken(Adversaries):
        def losses(
            self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
        ) -> dict[str, Tensor]:
            losses = super().losses(phase, networks, batch, noise, cache)
            if phase.name == "generator" and self.step >= at:
                losses["loss"] = losses["loss"] * float("nan")
            return losses

    loop = make_loop(Broken(), tmp_path, max_train_steps=20, log_steps=6, checkpointing_steps=4)
    with pytest.raises(UserError) as error:
        loop.run(None)
    assert f"generator/loss is not finite at step {at};" in str(error.value)
    assert f"{tmp_path / 'checkpoint-4'} is still good" in str(error.value)
    assert loop.step == 6
    checkpointing.verify(tmp_path / "checkpoint-4", identity(loop), {})
    assert all(value.isfinite().all() for value in weights(tmp_path / "checkpoint-4/networks/generator").values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    class Broken(Adversaries):
        def after_update(self, phase: Phase, networks: dict[str, ModelMixin], noise: Noise, gather: Any) -> None:
            if phase.name == "lazy":
                next(networks["critic"].parameters()).data[0, 0] = float("inf")

    loop = make_loop(Broken(every=4), tmp_path, checkpointing_steps=1)
    with pytest.raises(UserError, match="the weights of critic are not finite at step 1; no checkpoint was saved"):
        loop.run(None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_batch_statistics_that_are_not_finite_are_never_saved(tmp_path: Path, value: str) -> None:
    class Broken(Adversaries):
        def after_update(self, phase: Phase, networks: dict[str, ModelMixin], noise: Noise, gather: Any) -> None:
            if phase.name == "lazy":
                networks["generator"].norm.running_var[3] = float(value)

    loop = make_loop(Broken(every=4, batch_norm=True), tmp_path, checkpointing_steps=1)
    with pytest.raises(UserError, match="the weights of generator are not finite at step 1; no checkpoint was saved"):
        loop.run(None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("dataset", "count"), [("builtin:toy2d", 2000), ("builtin:digits", 32)])
def test_pictures_show_enough(tmp_path: Path, dataset: str, count: int) -> None:
    class Watching(VAEObjective):
        shown: list[int]

        def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
            self.shown.append(len(batch["image"]))
            return super().sample_grid(pipeline, batch, generator)

    data = load_data(DataArguments(dataset_name=dataset), 0)
    objective = Watching(
        VAE(data.spec.channels, data.spec.sample_size, architecture="mlp", hidden_dims=(8,)), data.spec
    )
    objective.shown = []
    args = TrainingArguments(output_dir=str(tmp_path), max_train_steps=1, checkpointing_steps=0)
    TrainingLoop(objective, data, args, Accelerator()).run(None)
    assert objective.shown == [count]
    assert (tmp_path / "samples" / "step-1.png").is_file()


def test_gradients_are_clipped_network_by_network(tmp_path: Path) -> None:
    class Watching(Adversaries):
        norms: list[float]

        def after_update(self, phase: Phase, networks: dict[str, ModelMixin], noise: Noise, gather: Any) -> None:
            gradients = torch.cat([p.grad.flatten() for p in networks[phase.trains[0]].parameters()])
            self.norms.append(float(gradients.norm()))

    norms = {}
    for limit in (None, 0.05):
        torch.manual_seed(0)
        objective = Watching(critic_updates=1)
        objective.norms = []
        make_loop(objective, tmp_path / str(limit), max_grad_norm=limit, max_train_steps=1).run(None)
        norms[limit] = objective.norms
    assert all(norm > 0.06 for norm in norms[None])
    assert norms[0.05] == pytest.approx([0.05] * 3, rel=1e-3)


def test_parameter_groups_have_their_own_learning_rate(tmp_path: Path) -> None:
    class Grouped(Adversaries):
        def param_groups(self, name: str) -> list[dict[str, Any]]:
            network = self.networks[name]
            if name == "critic":
                return super().param_groups(name)
            return [
                {"params": list(network.first.parameters())},
                {"params": list(network.second.parameters()), "lr": 0.1},
            ]

    changes = {"learning_rate": 0.4, "lr_scheduler": "linear", "max_train_steps": 8, "checkpointing_steps": 2}
    loop = make_loop(Grouped(), tmp_path, **changes)
    loop.prepare(None)
    for step in range(2):
        loop.train_until(step + 1)
        rate = 0.4 * (8 - step) / 8
        assert [g["lr"] for g in loop.optimizers["critic"].param_groups] == pytest.approx([rate])
        assert [g["lr"] for g in loop.optimizers["generator"].param_groups] == pytest.approx([rate, rate / 4])
    resumed = make_loop(Grouped(), tmp_path, **changes)
    resumed.prepare(tmp_path / "checkpoint-2")
    resumed.training_step()
    assert [g["lr"] for g in resumed.optimizers["generator"].param_groups] == pytest.approx([0.3, 0.075])


@pytest.mark.parametrize("learning_rate", [0.4, 0.01])
def test_a_network_has_its_own_learning_rate_and_the_common_schedule(tmp_path: Path, learning_rate: float) -> None:
    class Separate(Adversaries):
        def param_groups(self, name: str) -> list[dict[str, Any]]:
            (group,) = super().param_groups(name)
            return [group | {"lr": 0.08}] if name == "critic" else [group]

    changes = {"learning_rate": learning_rate, "lr_scheduler": "linear", "max_train_steps": 8}
    loop = make_loop(Separate(), tmp_path, **changes)
    loop.prepare(None)
    for step in range(3):
        loop.training_step()
        rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in loop.optimizers.items()}
        factor = (8 - step) / 8
        assert rates == pytest.approx({"critic": 0.08 * factor, "generator": learning_rate * factor})


@pytest.mark.parametrize("rate", [0.0, -0.1])
def test_a_learning_rate_that_is_not_positive(tmp_path: Path, rate: float) -> None:
    class Separate(Adversaries):
        def param_groups(self, name: str) -> list[dict[str, Any]]:
            return [super().param_groups(name)[0] | ({"lr": rate} if name == "critic" else {})]

    with pytest.raises(UserError, match=f"^the learning rate of critic must be positive, got {rate}$"):
        make_loop(Separate(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_batches_of_packs(tmp_path: Path) -> None:
    objective = Adversaries()
    objective.batch_multiple = 4
    assert make_loop(objective, tmp_path, train_batch_size=8).total_steps == 4
    with pytest.raises(UserError, match=r"^--train_batch_size 6 must be a multiple of 4: "):
        make_loop(objective, tmp_path, train_batch_size=6)
    assert not list(tmp_path.iterdir())


def test_what_follows_an_update_can_average_over_processes(tmp_path: Path) -> None:
    class Averaging(Adversaries):
        def after_update(self, phase: Phase, networks: dict[str, ModelMixin], noise: Noise, gather: Any) -> None:
            super().after_update(phase, networks, noise, gather)
            assert torch.equal(gather(torch.tensor([[1.0, 3.0]])), torch.tensor([[1.0, 3.0]]))
            assert noise.normal((2,), like=torch.zeros(0)).shape == (2,)

    objective = Averaging()
    make_loop(objective, tmp_path).run(None)
    assert objective.updates == 26


def test_data_dependent_initialisation_happens_once(tmp_path: Path) -> None:
    class Initialised(Adversaries):
        batches: list[list[int]]

        def initialize(self, batch: Batch, noise: Noise, gather: Any) -> None:
            self.batches.append(batch["index"].tolist())
            assert torch.equal(gather(torch.ones(1, 2)), torch.ones(1, 2))
            assert noise.normal((2,), like=torch.zeros(0)).shape == (2,)

    objective = Initialised()
    objective.batches = []
    make_loop(objective, tmp_path, checkpointing_steps=2).run(None)
    first = next(index for _, _, index, *_ in objective.seen)
    assert objective.batches == [first]  # and the batch is not lost for training
    resumed = Initialised()
    resumed.batches = []
    make_loop(resumed, tmp_path).run(tmp_path / "checkpoint-2")
    assert resumed.batches == []


def test_seeds_of_noise_differ() -> None:
    seeds = [noise_seed(*key) for key in [(0, s, p, u) for s in range(50) for p in range(4) for u in range(5)]]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert noise_seed(1, 2) != noise_seed(2, 1)


def test_fp16_is_refused_where_it_cannot_work(tmp_path: Path) -> None:
    loop = make_loop(Adversaries(), tmp_path)
    machine = SimpleNamespace(mixed_precision="fp16", device=torch.device("cuda"), num_processes=1)
    with pytest.raises(UserError, match="--mixed_precision fp16 cannot train a loss that differentiates a gradient"):
        check_machine(loop.objective, loop.args, machine)  # type: ignore[arg-type]
    loop.objective.phases = loop.objective.phases[1:]
    check_machine(loop.objective, loop.args, machine)  # type: ignore[arg-type]
    machine.device = torch.device("cpu")
    with pytest.raises(UserError, match="--mixed_precision fp16 needs a GPU"):
        check_machine(loop.objective, loop.args, machine)  # type: ignore[arg-type]


def test_synchronised_batch_statistics_need_gpus(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--sync_bn"):
        make_loop(Adversaries(), tmp_path, sync_bn=True)


def test_one_process_has_nobody_to_share_states_with(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--zero_redundancy_optimizer shares states between processes, and there is"):
        make_loop(Adversaries(), tmp_path, zero_redundancy_optimizer=True)


def test_networks_that_store_their_activations_in_any_case(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--gradient_checkpointing: none of these networks can \(gen"):
        make_loop(Adversaries(), tmp_path, gradient_checkpointing=True)
