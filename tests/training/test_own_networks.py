"""Networks, losses and loop features of a user's own: by one process and by two, resumed, reloaded, refused."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ModelMixin

import hf_genmodels
from hf_genmodels import (
    VAE,
    AutoPipeline,
    DataSpec,
    GANObjective,
    GANPipeline,
    Phase,
    TrainingArguments,
    VAEObjective,
    load_data,
    train,
)
from hf_genmodels.data import DataArguments
from hf_genmodels.registration import _REGISTERED
from hf_genmodels.training import checkpointing
from tests.testing_utils.own import (
    MY_LOSS,
    OBJECTIVES,
    STEPS,
    SWITCHED_ON_AT,
    MyDiscriminator,
    MyGenerator,
    MyObjective,
    main,
    run,
)
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import interrupted, largest_difference, launch_two_of, same_bytes, weights

POINTS = DataSpec("points", 4, None, 1.0, None, 96, "0" * 12)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All objectives by one process in `one/` and by two in `two/`."""
    from accelerate.state import AcceleratorState

    folder = tmp_path_factory.mktemp("runs")
    done = launch_two_of(["-m", "tests.testing_utils.own", str(folder / "two")])
    assert done.returncode == 0, done.stderr
    AcceleratorState._reset_state(reset_partial_state=True)
    main(folder / "one")
    return folder


def saved(run: Path) -> list[Path]:
    """Folders of the networks and averages of the last checkpoint."""
    return sorted(path.parent for path in (run / f"checkpoint-{STEPS}").rglob("config.json"))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_processes_do_as_one(runs: Path, name: str) -> None:
    one, two = runs / "one" / name, runs / "two" / name
    for folder in saved(one):
        assert largest_difference(folder, two / folder.relative_to(one)) <= 1e-6, folder
    ours, theirs = (json.loads((each / "metrics.json").read_text()) for each in (one, two))
    assert theirs["environment"]["processes"] == 2
    assert ours["validation"] == pytest.approx(theirs["validation"], rel=1e-4)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_resuming_is_exact(runs: Path, name: str, tmp_path: Path) -> None:
    whole = runs / "one" / name
    resumed = interrupted(whole, 2, tmp_path / "resumed")
    run(name, resumed, resume_from_checkpoint="latest")
    folders = saved(whole)
    assert folders
    for folder in folders:
        assert same_bytes(folder, resumed / folder.relative_to(whole)), folder
    history = [torch.load(each / f"checkpoint-{STEPS}" / "state.pt")["history"] for each in (whole, resumed)]
    assert history[0] == history[1]


def test_a_pipeline_comes_back_and_its_folder_is_whole(tmp_path: Path) -> None:
    pipe = run("gan", tmp_path / "run")
    assert isinstance(pipe, GANPipeline) and type(pipe.generator) is MyGenerator and not pipe.generator.training
    card = (tmp_path / "run" / "README.md").read_text()
    assert "`generator` is a `MyGenerator`, a class of the author's: give it to `from_pretrained`" in card
    index = json.loads((tmp_path / "run" / "model_index.json").read_text())
    assert index["generator"] == ["tests", "MyGenerator"]
    assert (tmp_path / "run" / "training_networks" / "discriminator" / "config.json").is_file()
    draw = torch.Generator().manual_seed(1)
    expected = pipe(5, draw, output_type="pt").images
    loaded = GANPipeline.from_pretrained(tmp_path / "run", generator=MyGenerator)
    assert torch.equal(loaded(5, torch.Generator().manual_seed(1), output_type="pt").images, expected)


def test_own_classes_are_loaded_when_given_or_registered(
    runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = runs / "one" / "own"
    message = (
        r"component generator is a MyGenerator of 'tests', and nothing is imported on a file's word; give the class, "
        r"from_pretrained\(\.\.\., generator=MyGenerator\), or hf_genmodels\.register\(MyGenerator\) before"
    )
    for pipeline in (GANPipeline, AutoPipeline):
        with refused(message):
            pipeline.from_pretrained(folder)
    given = AutoPipeline.from_pretrained(folder, generator=MyGenerator)
    monkeypatch.setitem(_REGISTERED, "MyGenerator", MyGenerator)
    for loaded in (GANPipeline.from_pretrained(folder), AutoPipeline.from_pretrained(folder)):
        for ours, theirs in zip(loaded.generator.parameters(), given.generator.parameters(), strict=True):
            assert torch.equal(ours, theirs)
    loaded.save_pretrained(tmp_path / "again")
    assert same_bytes(folder / "generator", tmp_path / "again" / "generator")


def test_registering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_genmodels.registration._REGISTERED", {})
    assert hf_genmodels.register(MyGenerator) is MyGenerator is hf_genmodels.register(MyGenerator)
    namesake = type("MyGenerator", (MyGenerator,), {"__module__": "elsewhere"})
    with refused("a MyGenerator of tests.testing_utils.own is registered already; rename one of the two"):
        hf_genmodels.register(namesake)
    for wrong in (torch.nn.Linear, ModelMixin, MyGenerator(), "MyGenerator"):
        with refused("register takes a class of ModelMixin and ConfigMixin, or of GenerativePipeline, got "):
            hf_genmodels.register(wrong)  # type: ignore[type-var]


def test_a_network_that_cannot_play_its_part_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    data = load_data(DataArguments(dataset_name="builtin:toy2d", max_train_samples=96), 0)
    args = TrainingArguments(output_dir=str(tmp_path / "run"), max_train_steps=1)
    objective = MyObjective(MyGenerator(), MyDiscriminator(), data.spec)
    objective.networks["generator"] = MyDiscriminator()
    with refused(
        "component generator of GANPipeline must be a generator, but the configuration of MyDiscriminator has"
    ):
        train(objective, data, args)
    assert not (tmp_path / "run").exists()


def test_saved_networks_are_given_to_the_objective(tmp_path: Path) -> None:
    with refused("pretrained_model_name_or_path is for the scripts; load the networks"):
        run("gan", tmp_path / "run", pretrained_model_name_or_path="elsewhere")
    assert not (tmp_path / "run").exists()


def test_the_same_objects_train_again(tmp_path: Path) -> None:
    """Without averages, a loop would leave the networks of other phases without gradients; warm-ups move numbers."""
    data = load_data(DataArguments(dataset_name="builtin:toy2d", max_train_samples=96), 0)
    torch.manual_seed(0)
    objective = GANObjective(MyGenerator(), MyDiscriminator(), data.spec)
    options: dict[str, Any] = {"train_batch_size": 16, "checkpointing_steps": 2}
    train(objective, data, TrainingArguments(str(tmp_path / "first"), max_train_steps=2, **options))
    assert all(p.requires_grad for network in objective.networks.values() for p in network.parameters())
    train(objective, data, TrainingArguments(str(tmp_path / "second"), max_train_steps=2, **options))
    vae = VAEObjective(VAE(2, None, 2, architecture="mlp", hidden_dims=(4,)), data.spec, beta_warmup_steps=9)
    train(vae, data, TrainingArguments(str(tmp_path / "vae"), max_train_steps=2, **options))
    further = TrainingArguments(str(tmp_path / "vae"), max_train_steps=4, resume_from_checkpoint="latest", **options)
    train(vae, data, further)
    assert json.loads((tmp_path / "vae" / "metrics.json").read_text())["step"] == 4


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda data: GANObjective(MyGenerator(), MyDiscriminator(), data), "objective.gan_loss"),
        (
            lambda data: GANObjective(MyGenerator(), MyDiscriminator(), data, gan_loss=MY_LOSS, critic_updates=2),
            "objective.phase discriminator",
        ),
        (
            lambda data: GANObjective(
                MyGenerator(), MyDiscriminator(), data, gan_loss=MY_LOSS, discriminator_learning_rate=1e-5
            ),
            "objective.optimizer of discriminator",
        ),
        (lambda data: OtherGAN(MyGenerator(), MyDiscriminator(), data, gan_loss=MY_LOSS), "objective.class"),
        (lambda data: GANObjective(MyGenerator(), OtherDiscriminator(), data, gan_loss=MY_LOSS), "class of discrim"),
    ],
)
def test_another_objective_does_not_resume(
    runs: Path, change: Any, difference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed = interrupted(runs / "one" / "gan", 2, tmp_path / "resumed")
    monkeypatch.setitem(OBJECTIVES, "gan", change)
    with refused(f"is of another run: {difference}"):
        run("gan", resumed, resume_from_checkpoint="latest")
    assert {path.name for path in resumed.iterdir()} == {"checkpoint-2"}


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("gan_loss", {}, None),  # an argument of the constructor that was at its default
        ("gan_loss", {"gan_loss": "hinge"}, 'objective.gan_loss = "non_saturating" in the checkpoint, "hinge" in'),
        ("derived", {}, None),
        ("phase discriminator", {}, "objective.phase discriminator = null in the checkpoint, "),
    ],
)
def test_properties_that_an_earlier_version_did_not_have(
    tmp_path: Path, name: str, changes: dict[str, Any], said: str | None
) -> None:
    """Arguments were at their defaults; what the constructor finds out is not compared."""
    data = load_data(DataArguments(dataset_name="builtin:toy2d", max_train_samples=96), 0)

    def go_on(**options: Any) -> None:
        torch.manual_seed(0)
        objective = GANObjective(MyGenerator(), MyDiscriminator(), data.spec, **options)
        objective.derived = 3  # type: ignore[attr-defined]
        args = {"train_batch_size": 16, "max_train_steps": 2, "checkpointing_steps": 1}
        train(objective, data, TrainingArguments(str(tmp_path), **args, resume_from_checkpoint="latest"))

    go_on()
    checkpointing.remove(tmp_path / "checkpoint-2")
    manifest = tmp_path / "checkpoint-1" / "checkpoint.json"
    told = json.loads(manifest.read_text())
    del told["run"][f"objective.{name}"]
    manifest.write_text(json.dumps(told))
    with refused(said) if said else nullcontext():
        go_on(**changes)


class OtherGAN(GANObjective):
    """A class with losses of its own, for all the loop knows."""


class OtherDiscriminator(MyDiscriminator):
    """Another class with the same configuration."""


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda o: setattr(o, "phases", ()), "has no phases"),
        (lambda o: setattr(o, "phases", (o.phases[0], o.phases[0])), "two phases have one name"),
        (
            lambda o: setattr(o, "phases", (Phase("x", ("critic",)),)),
            "phases names a network critic, and there are gen",
        ),
        (lambda o: setattr(o, "phases", (Phase("x", ("generator",), every=0),)), "phase x needs updates and every"),
        (lambda o: setattr(o, "ema", ("generatr",)), "ema names a network generatr"),
        (lambda o: setattr(o, "frozen", ("generator",)), "generator is frozen, and a phase trains it"),
        (lambda o: setattr(o, "data", POINTS), "the objective was built for samples of shape"),
        (lambda o: o.networks.update(generator=MyGenerator(out_channels=3)), "make samples of shape"),
    ],
)
def test_impossible_objectives_are_refused(spoil: Any, message: str, tmp_path: Path) -> None:
    data = load_data(DataArguments(dataset_name="builtin:toy2d", max_train_samples=96), 0)
    objective = GANObjective(MyGenerator(), MyDiscriminator(), data.spec)
    spoil(objective)
    with refused(message):
        train(objective, data, TrainingArguments(str(tmp_path / "run"), max_train_steps=1))
    assert not (tmp_path / "run").exists()


def test_impossible_arguments_are_refused(tmp_path: Path) -> None:
    with refused("GANObjective: generator must be a ModelMixin with a ConfigMixin, not a Linear"):
        GANObjective(torch.nn.Linear(3, 2), MyDiscriminator(), POINTS)  # type: ignore[arg-type]
    with refused("unknown GAN loss 'foo'"):
        GANObjective(MyGenerator(), MyDiscriminator(), POINTS, gan_loss="foo")  # type: ignore[arg-type]
    with refused("gan_loss wasserstein and gradient_penalty roth exclude each other; choose one of none, wgan_gp"):
        GANObjective(MyGenerator(), MyDiscriminator(), POINTS, gan_loss="wasserstein", gradient_penalty="roth")
    with refused("gan_loss wasserstein needs a Lipschitz critic, and nothing bounds the slope of MyDiscriminator"):
        GANObjective(MyGenerator(), MyDiscriminator(), POINTS, gan_loss="wasserstein")
    GANObjective(MyGenerator(), MyDiscriminator(), POINTS, gan_loss="wasserstein", weight_clip=0.01)
    with refused("critic_updates must be at least 1"):
        GANObjective(MyGenerator(), MyDiscriminator(), POINTS, critic_updates=0)
    with refused("--lr_scheduler must be one of linear, "):
        run("gan", tmp_path / "run", lr_scheduler="foo")
    assert not (tmp_path / "run").exists()


# the loop's contract -------------------------------------------------------------------------------------------------


def test_a_part_takes_part_from_its_step_on(runs: Path) -> None:
    before, after = (
        weights(runs / "two" / "own" / f"checkpoint-{step}" / "networks" / "generator") for step in (2, 4)
    )
    torch.manual_seed(0)
    start = MyGenerator().state_dict()
    assert torch.equal(before["second.weight"], start["second.weight"]) and 2 < SWITCHED_ON_AT < 4
    assert not torch.equal(after["second.weight"], start["second.weight"])
    assert not torch.equal(before["first.weight"], start["first.weight"])


def test_phases_start_and_stop(runs: Path) -> None:
    history = torch.load(runs / "one" / "own" / f"checkpoint-{STEPS}" / "state.pt")["history"]
    assert [step for step, _ in history["generator/loss"]] == [2, 4, 6]
    assert [step for step, _ in history["lazy/loss"]] == [2, 4, 6]  # of steps 0, 2 and 4
    ended = Phase("x", ("x",), updates=3, every=2, starts=3, stops=8)
    assert [step for step in range(12) if ended.updates_in(step) == 3] == [4, 6]
    assert {ended.updates_in(step) for step in range(12)} == {0, 3}


def test_epochs_of_phases_that_start_late(tmp_path: Path) -> None:
    run("own", tmp_path / "run", max_train_steps=None, num_train_epochs=2)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["step"] == 12  # 96 points, 6 batches


def test_optimizers_of_their_own(runs: Path) -> None:
    state = torch.load(runs / "one" / "own" / f"checkpoint-{STEPS}" / "state.pt")["optimizers"]
    assert {"square_avg"} <= state["generator"]["state"][0].keys() and "exp_avg" not in state["generator"]["state"][0]
    assert state["generator"]["param_groups"][0]["alpha"] == 0.9
    assert {"exp_avg", "exp_avg_sq"} <= state["discriminator"]["state"][0].keys()
    assert tuple(state["discriminator"]["param_groups"][0]["betas"]) == (0.3, 0.9)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"optimizer": "lion"}], "generator: unknown optimiser 'lion'; choose one of adamw, adam, rmsprop, sgd"),
        ([{"optimizer": "sgd"}, {}], "generator: its parameter groups name several optimisers: adamw, sgd"),
        ([{"optimizer": "sgd", "betas": (0.5, 0.9)}], "generator: sgd has no option 'betas', which a parameter group"),
        ([{"lr": 0.0}], "the learning rate of generator must be positive, got 0.0"),
    ],
)
def test_impossible_optimizers_are_refused(groups: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    class Impossible(GANObjective):
        def param_groups(self, name: str) -> list[dict[str, Any]]:
            if name != "generator":
                return super().param_groups(name)
            parameters = list(self.networks[name].parameters())
            return [{"params": parameters[index :: len(groups)], **group} for index, group in enumerate(groups)]

    data = load_data(DataArguments(dataset_name="builtin:toy2d", max_train_samples=96), 0)
    objective = Impossible(MyGenerator(), MyDiscriminator(), data.spec)
    with refused(message):
        train(objective, data, TrainingArguments(output_dir=str(tmp_path / "run"), max_train_steps=1))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "rmsprop", "sgd"])
def test_the_option_chooses_the_optimizer_of_all(optimizer: str, tmp_path: Path) -> None:
    """One step from the same weights with the same gradient is torch's own."""
    run("codebook", tmp_path / "run", optimizer=optimizer, max_train_steps=1, checkpointing_steps=1, learning_rate=0.1)
    reference = {
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0),
        "adam": lambda p: torch.optim.Adam(p, lr=0.1),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    }[optimizer]
    shift = weights(tmp_path / "run" / "checkpoint-1" / "networks" / "codebook")["shift"]
    run("codebook", tmp_path / "plain", optimizer="sgd", max_train_steps=1, checkpointing_steps=1, learning_rate=1.0)
    gradient = -weights(tmp_path / "plain" / "checkpoint-1" / "networks" / "codebook")["shift"]
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = gradient
    reference([parameter]).step()
    torch.testing.assert_close(shift, parameter.detach(), rtol=1e-5, atol=1e-7)


def test_a_buffer_is_averaged_or_copied(runs: Path) -> None:
    folder = runs / "one" / "codebook" / f"checkpoint-{STEPS}"
    raw, average = weights(folder / "networks" / "codebook"), weights(folder / "ema" / "codebook")
    assert not torch.equal(raw["codes"], average["codes"])
    assert largest_difference(folder / "networks" / "codebook", folder / "ema" / "codebook") < 3.0


def test_figures_of_whole_predictions(runs: Path) -> None:
    for processes in ("one", "two"):
        figures = json.loads((runs / processes / "codebook" / "metrics.json").read_text())["validation"]
        assert figures.keys() == {"mean", "median", "examples"}
        assert figures["examples"] > 900 and figures["median"] != pytest.approx(figures["mean"])


class WithFirstStage(MyObjective):
    """A generator whose samples a frozen network moves."""

    frozen = ("stage",)

    def __init__(self, data: DataSpec) -> None:
        super().__init__(MyGenerator(), MyDiscriminator(), data)
        self.networks["stage"] = MyGenerator(latent_dim=2)

    def losses(self, phase: Phase, networks: dict[str, Any], *rest: Any) -> dict[str, torch.Tensor]:
        assert not networks["stage"].training and not any(p.requires_grad for p in networks["stage"].parameters())
        return super().losses(phase, networks, *rest)


def test_a_frozen_network_is_saved_once(tmp_path: Path) -> None:
    data = load_data(DataArguments(dataset_name="builtin:toy2d", max_train_samples=96), 0)
    options: dict[str, Any] = {
        "max_train_steps": 4,
        "checkpointing_steps": 2,
        "train_batch_size": 16,
        "num_threads": 1,
    }

    def go(folder: str, **more: Any) -> None:
        torch.manual_seed(0)
        train(WithFirstStage(data.spec), data, TrainingArguments(str(tmp_path / folder), **options, **more))

    go("whole")
    whole = tmp_path / "whole"
    assert not list(whole.glob("checkpoint-*/*/stage"))
    assert (whole / "frozen" / "stage" / "config.json").is_file()
    go("whole", overwrite_output_dir=True)
    resumed = interrupted(whole, 2, tmp_path / "resumed")
    with refused(r"frozen/stage/\S+ is damaged or missing; there is no earlier checkpoint"):
        go("resumed", resume_from_checkpoint="latest")
    go("resumed", resume_from_checkpoint=str(whole / "checkpoint-2"))
    assert same_bytes(whole / "generator", resumed / "generator")
    stage = whole / "frozen" / "stage" / "diffusion_pytorch_model.safetensors"
    stage.write_bytes(stage.read_bytes()[:-1] + b"!")
    with refused("frozen/stage/diffusion_pytorch_model.safetensors is damaged or missing"):
        go("whole", resume_from_checkpoint="latest")
    assert checkpointing.list_checkpoints(whole)
