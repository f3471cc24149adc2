"""Pix2Pix: both losses against formulas written out, which networks a phase trains, saved runs, pictures, figures."""

from __future__ import annotations

import dataclasses
import inspect
import re
from types import SimpleNamespace

import pytest
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from hf_genmodels import DataSpec, UserError
from hf_genmodels.families.pix2pix import Pix2PixArguments, build, layout, reload
from hf_genmodels.losses.gan import GAN_LOSSES
from hf_genmodels.models.patch_discriminator import PatchDiscriminator
from hf_genmodels.models.resnet_translator import ResNetTranslator
from hf_genmodels.models.unet_translator import UNetTranslator
from hf_genmodels.objectives.pix2pix import Pix2PixObjective
from tests.testing_utils.adversarial_objectives import (
    assert_only_trains,
    assert_same_loss,
    assert_same_networks,
    phase_losses,
    save_run,
    slow_penalty,
)
from tests.testing_utils.objectives import seeded_noise
from tests.testing_utils.refusals import refused

COLOUR = DataSpec("builtin:edges", 3, (8, 8), 65535.0, None, 100, "1" * 12)
PAIRS = DataSpec("builtin:edges", 1, (8, 8), 255.0, None, 100, "0" * 12, other=COLOUR)
TINY = {"width": 2, "num_downs": 2}
JUDGE = {"receptive_field": 16, "discriminator_width": 2}
RESNET = {"architecture": "resnet", "width": 2, "num_blocks": 1}


def arguments(**options):
    shape = {} if "architecture" in options else TINY
    judge = {} if options.get("adversarial_weight") == 0 else JUDGE
    return Pix2PixArguments(**{**shape, **judge, "dropout": 0.0, **options})


def pix2pix(**options):
    torch.manual_seed(0)
    return build(arguments(**options), PAIRS)


def pairs(seed=0, count=3):
    generator = torch.Generator().manual_seed(seed)
    return {
        "conditioning_image": torch.rand(count, 1, 8, 8, generator=generator) * 2 - 1,
        "target_image": torch.rand(count, 3, 8, 8, generator=generator) * 2 - 1,
    }


def judged(objective, condition, image):
    """D's logits of each pair, one list of scalars; the condition's channels come first."""
    both = torch.zeros(len(image), 4, 8, 8)
    both[:, 0], both[:, 1:] = condition[:, 0], image
    return list(objective.networks["discriminator"](both).logits.flatten())


def mean(values):
    return sum(values, torch.zeros(())) / len(values)


def fooled(kind, logits):
    if kind == "least_squares":
        return mean([(d - 1) ** 2 for d in logits])
    if kind == "non_saturating":
        return mean([-torch.log(1 / (1 + torch.exp(-d))) for d in logits])
    return mean([-d for d in logits])


def judging(kind, real, fake):
    if kind == "least_squares":
        return (mean([(d - 1) ** 2 for d in real]) + mean([d**2 for d in fake])) / 2
    if kind == "non_saturating":
        real = [-torch.log(1 / (1 + torch.exp(-d))) for d in real]
        return (mean(real) + mean([-torch.log(1 - 1 / (1 + torch.exp(-d))) for d in fake])) / 2
    if kind == "hinge":
        return (mean([(1 - d).clamp(min=0) for d in real]) + mean([(1 + d).clamp(min=0) for d in fake])) / 2
    return (mean(fake) - mean(real)) / 2


# losses --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["non_saturating", "least_squares", "hinge"])
@pytest.mark.parametrize(
    "options", [{}, {"reconstruction_loss": "mse", "adversarial_weight": 0.3, "reconstruction_weight": 7.0, **RESNET}]
)
def test_losses_of_both_phases(kind, options):
    objective, batch, cache = pix2pix(gan_loss=kind, **options), pairs(), {}
    condition, target = batch["conditioning_image"], batch["target_image"]
    fake = objective.networks["generator"](condition).sample
    differences = list((fake - target).flatten())
    distance = mean([abs(d) if "reconstruction_loss" not in options else d * d for d in differences])
    adversarial = fooled(kind, judged(objective, condition, fake))
    expected = options.get("adversarial_weight", 1.0) * adversarial
    expected = expected + options.get("reconstruction_weight", 100.0) * distance

    losses = phase_losses(objective, "generator", batch, cache)
    assert_same_loss(losses["loss"], expected, objective, ("generator",))
    assert losses["reconstruction"].item() == pytest.approx(distance.item(), rel=1e-5)
    assert losses["adversarial"].item() == pytest.approx(adversarial.item(), rel=1e-5)

    losses = phase_losses(objective, "discriminator", batch, cache)
    fake = fake.detach()
    real_logits, fake_logits = judged(objective, condition, target), judged(objective, condition, fake)
    assert_same_loss(losses["loss"], judging(kind, real_logits, fake_logits), objective, ("discriminator",))
    assert 0 <= losses["accuracy"].item() <= 1
    assert not cache


@pytest.mark.parametrize(
    ("kind", "penalty", "weight"),
    [
        *(("wasserstein", "wgan_gp", 10.0), ("wasserstein", "zero_centred", 10.0)),
        *(("least_squares", "r1", 10.0), ("hinge", "wgan_gp", 3.0), ("non_saturating", "r2", 10.0)),
    ],
)
def test_penalised_discriminators(kind, penalty, weight):
    """The penalty on each pair's gradient, beside the loss and halved where that is halved."""
    given = {} if weight == 10 else {"gradient_penalty_weight": weight}
    objective = pix2pix(gan_loss=kind, gradient_penalty=penalty, norm="instance", **given)
    batch, cache = pairs(), {}
    assert [phase.double_backward for phase in objective.phases] == [False, True]
    phase_losses(objective, "generator", batch, cache)
    condition, target, fake = batch["conditioning_image"], batch["target_image"], cache["fake"]
    losses = phase_losses(objective, "discriminator", batch, cache)

    def critic(pair, index):
        return objective.networks["discriminator"](pair[None]).logits.sum()

    both = torch.cat([condition, target], 1), torch.cat([condition, fake], 1)
    mix = seeded_noise().uniform((len(target),), like=target)
    expected = slow_penalty(penalty, weight, critic, *both, mix) * (1 if kind == "least_squares" else 0.5)
    assert losses["penalty"].item() == pytest.approx(expected.item(), rel=1e-5) != 0
    unpenalised = judging(kind, judged(objective, condition, target), judged(objective, condition, fake))
    assert_same_loss(losses["loss"], unpenalised + expected, objective, ("discriminator",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"gan_loss": "wasserstein"},
            "--gan_loss wasserstein needs a Lipschitz critic: give --gradient_penalty wgan_gp and --norm instance",
        ),
        (
            {"gan_loss": "wasserstein", "norm": "instance"},
            "--gan_loss wasserstein needs a Lipschitz critic: give --gradient_penalty wgan_gp",
        ),
        (
            {"gan_loss": "wasserstein", "gradient_penalty": "r1", "norm": "none"},
            "--gan_loss wasserstein and --gradient_penalty r1 exclude each other; choose one of none, wgan_gp",
        ),
        (
            {"gradient_penalty": "r1"},
            "--norm batch and --gradient_penalty r1 exclude each other: a logit must depend on its own sample alone; "
            "use instance or none",
        ),
        ({"gradient_penalty": "r1", "adversarial_weight": 0.0}, "--gradient_penalty has no meaning with --advers"),
        ({"gradient_penalty_weight": 1.0}, "--gradient_penalty_weight has no meaning with --gradient_penalty none"),
    ],
)
def test_losses_and_penalties_that_exclude_each_other(options, message):
    with refused(re.escape(message)):
        pix2pix(**options)


def test_losses_penalties_and_networks_that_exclude_each_other():
    """In Python, where any network may be given."""
    generator = pix2pix().networks["generator"]

    def build_one(norm="batch", **options):
        return Pix2PixObjective(generator, PatchDiscriminator(4, 2, 16, norm), PAIRS, **options)

    with refused("gan_loss wasserstein needs a Lipschitz critic, and nothing bounds the slope of PatchDiscriminator"):
        build_one("instance", gan_loss="wasserstein")
    with refused("PatchDiscriminator normalises by the batch, which gradient_penalty r1 excludes"):
        build_one(gradient_penalty="r1")
    with refused("gan_loss wasserstein and gradient_penalty r1 exclude each other"):
        build_one("none", gan_loss="wasserstein", gradient_penalty="r1")
    with refused("gradient_penalty 'roth' is unknown"):
        build_one("none", gradient_penalty="roth")
    build_one("spectral", gan_loss="wasserstein")
    build_one("batch", gan_loss=GAN_LOSSES["wasserstein"])  # a loss of one's own is one's own affair


@pytest.mark.parametrize("options", [{"norm": "batch"}, {"norm": "none"}, RESNET | {"norm": "batch"}])
def test_a_phase_trains_all_of_its_network_and_no_other(options):
    objective, batch, cache = pix2pix(**options), pairs(count=8), {}
    assert [(phase.name, phase.trains, phase.reuse_batch) for phase in objective.phases] == [
        ("generator", ("generator",), False),
        ("discriminator", ("discriminator",), True),
    ]
    for phase in objective.phases:
        for network in objective.networks.values():
            network.zero_grad(set_to_none=True)
        phase_losses(objective, phase.name, batch, cache)["loss"].backward()
        for name, network in objective.networks.items():
            for key, parameter in network.named_parameters():
                reached = parameter.grad is not None and parameter.grad.abs().sum() > 0
                assert reached == (name in phase.trains), f"{phase.name}: {name}.{key}"
    assert_only_trains(objective, "discriminator", batch)


def test_the_discriminator_learns_from_the_translations_that_the_generator_learnt_from():
    objective, batch, cache, seen = pix2pix(dropout=0.5), pairs(), {}, []
    objective.networks["generator"].train().register_forward_hook(lambda *call: seen.append(call[2].sample))
    phase_losses(objective, "generator", batch, cache)
    losses = phase_losses(objective, "discriminator", batch, cache)
    assert len(seen) == 1
    condition = batch["conditioning_image"]
    logits = [judged(objective, condition, image) for image in (batch["target_image"], seen[0].detach())]
    assert losses["loss"].item() == pytest.approx(judging("non_saturating", *logits).item(), rel=1e-5)


def test_the_discriminator_sees_the_condition():
    objective, batch = pix2pix(), pairs()
    fake = pairs(1)["target_image"]
    other = batch | {"conditioning_image": pairs(2)["conditioning_image"]}
    one, two = (phase_losses(objective, "discriminator", b, {"fake": fake})["loss"].item() for b in (batch, other))
    assert one != pytest.approx(two, rel=1e-4)
    one, two = (
        phase_losses(objective, "generator", b)["adversarial"].item() for b in (batch, batch | {"target_image": fake})
    )
    assert one == two


def test_dropout_is_noise_in_training():
    for probability, same in ((0.0, True), (0.5, False)):
        objective = pix2pix(dropout=probability)
        objective.networks["generator"].train()
        one, two = (phase_losses(objective, "generator", pairs())["loss"].item() for _ in range(2))
        assert (one == two) == same
    assert Pix2PixArguments().dropout == 0.5


def test_without_adversarial_loss_there_is_no_discriminator():
    objective, batch = pix2pix(adversarial_weight=0, reconstruction_weight=2.0), pairs()
    assert set(objective.networks) == {"generator"}
    (phase,) = objective.phases
    assert phase.trains == ("generator",)
    cache = {}
    losses = phase_losses(objective, "generator", batch, cache)
    assert set(losses) == {"loss", "reconstruction"} and not cache
    fake = objective.networks["generator"](batch["conditioning_image"]).sample
    expected = 2 * mean([abs(d) for d in (fake - batch["target_image"]).flatten()])
    assert_same_loss(losses["loss"], expected, objective, ("generator",))


class OwnTranslator(ModelMixin, ConfigMixin):
    """With the least that a translator must have."""

    @register_to_config
    def __init__(self, in_channels=1, out_channels=3, sample_size=8):
        super().__init__()
        self.layer = torch.nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, sample):
        return SimpleNamespace(sample=self.layer(sample).tanh())


class OwnDiscriminator(ModelMixin, ConfigMixin):
    """One logit for each pair."""

    @register_to_config
    def __init__(self, in_channels=4):
        super().__init__()
        self.layer = torch.nn.Linear(in_channels, 1)

    def forward(self, sample):
        return SimpleNamespace(logits=self.layer(sample.mean((2, 3))))


def test_networks_and_losses_of_ones_own():
    torch.manual_seed(0)
    networks, options = (OwnTranslator(), OwnDiscriminator()), {"discriminator_learning_rate": 0.5}
    objective = Pix2PixObjective(*networks, PAIRS, gan_loss=GAN_LOSSES["hinge"], adversarial_weight=2.0, **options)
    batch, cache = pairs(), {}
    fake = networks[0](batch["conditioning_image"]).sample
    expected = 2 * fooled("hinge", judged(objective, batch["conditioning_image"], fake))
    expected = expected + 100 * mean([abs(d) for d in (fake - batch["target_image"]).flatten()])
    losses = phase_losses(objective, "generator", batch, cache)
    assert_same_loss(losses["loss"], expected, objective, ("generator",))
    assert phase_losses(objective, "discriminator", batch, cache)["loss"].isfinite()
    assert [group.get("lr") for name in objective.networks for group in objective.param_groups(name)] == [None, 0.5]
    pictures = objective.sample_grid(objective.pipeline(objective.networks), batch, torch.Generator())
    assert [picture.shape for picture in pictures.values()] == [(3, 3, 8, 24)]
    assert objective.evaluate(objective.networks, batch, torch.Generator())["L1"].shape == (3,)


# options -------------------------------------------------------------------------------------------------------------


def test_the_papers_options_are_the_defaults():
    args = Pix2PixArguments()
    assert (args.architecture, args.norm, args.dropout, args.gan_loss) == ("unet", "batch", 0.5, "non_saturating")
    assert (args.adversarial_weight, args.reconstruction_weight, args.reconstruction_loss) == (1.0, 100.0, "l1")
    assert (args.receptive_field, args.width, args.discriminator_width) == (70, 64, 64)
    assert args.loop_defaults == {
        "learning_rate": 2e-4,
        "adam_beta1": 0.5,
        "train_batch_size": 1,
        "lr_scheduler": "constant_then_linear",
    }
    assert layout(args).kind == "pair"


def test_the_objective_has_the_defaults_of_the_options():
    args = Pix2PixArguments()
    for name, parameter in inspect.signature(Pix2PixObjective).parameters.items():
        assert parameter.default in (inspect.Parameter.empty, getattr(args, name, None)), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adversarial_weight": -1.0}, "--adversarial_weight must be at least 0, got -1.0"),
        ({"reconstruction_weight": -1.0}, "--reconstruction_weight must be at least 0, got -1.0"),
        (
            {"adversarial_weight": 0.0, "reconstruction_weight": 0.0},
            "--adversarial_weight and --reconstruction_weight are both 0: there is nothing to learn",
        ),
        *(
            ({"adversarial_weight": 0.0, name: value}, f"--{name} has no meaning with --adversarial_weight 0; leave")
            for name, value in [
                ("gan_loss", "hinge"),
                ("gradient_penalty", "wgan_gp"),
                ("receptive_field", 16),
                ("discriminator_width", 2),
                ("discriminator_learning_rate", 0.1),
            ]
        ),
    ],
)
def test_options_that_mean_nothing(options, message):
    with refused() as error:
        build(Pix2PixArguments(**options), PAIRS)
    assert str(error.value).startswith(message)


# saved runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["output", "checkpoint"])
@pytest.mark.parametrize(
    "options",
    [{"norm_statistics": "image", "dropout": 0.25}, RESNET | {"norm": "instance"}, {"adversarial_weight": 0.0}],
)
def test_from_saved_networks(options, place, tmp_path):
    first = pix2pix(**options)
    save_run(first, tmp_path, place)
    without = {"adversarial_weight": 0.0} if "adversarial_weight" in options else {}
    given = Pix2PixArguments(**without)
    again = reload(tmp_path, given, PAIRS)
    assert_same_networks(again, first)
    assert dataclasses.asdict(given) == dataclasses.asdict(arguments(**options))
    batch = pairs()
    for objective in (first, again):
        for network in objective.networks.values():
            network.train()
    one, two = (phase_losses(o, "generator", batch) for o in (first, again))
    if "norm_statistics" not in options:  # which has dropout
        assert one["loss"].item() == pytest.approx(two["loss"].item())


def test_a_saved_generator_gets_no_discriminator_if_it_needs_none(tmp_path):
    save_run(pix2pix(), tmp_path, "output")
    args = Pix2PixArguments(adversarial_weight=0.0)
    assert set(reload(tmp_path, args, PAIRS).networks) == {"generator"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 3}, "--width cannot be changed with --pretrained.*; the saved network has 2"),
        ({"architecture": "resnet"}, "--architecture cannot be changed with .*; the saved network has unet"),
        ({"num_downs": 3}, "--num_downs cannot be changed with .*; the saved network has 2"),
        ({"norm": "instance"}, "--norm cannot be changed with .*; the saved network has batch"),
        ({"dropout": 0.1}, "--dropout cannot be changed with .*; the saved network has 0.0"),
        ({"receptive_field": 1}, "--receptive_field cannot be changed with .*; the saved network has 16"),
        ({"discriminator_width": 4}, "--discriminator_width cannot be changed with .*; the saved network has 2"),
        ({"reconstruction_weight": -1.0}, "--reconstruction_weight must be at least 0, got -1.0"),
    ],
)
def test_saved_networks_and_options_that_contradict_them(options, message, tmp_path):
    save_run(pix2pix(), tmp_path, "output")
    with refused(message):
        reload(tmp_path, Pix2PixArguments(**options), PAIRS)


def test_saved_networks_that_do_not_fit(tmp_path):
    objective = pix2pix()
    save_run(objective, tmp_path, "output")
    for data in (
        dataclasses.replace(PAIRS, channels=3),
        dataclasses.replace(PAIRS, other=dataclasses.replace(COLOUR, channels=1)),
    ):
        with pytest.raises(UserError) as error:
            reload(tmp_path, Pix2PixArguments(), data)
        assert str(error.value) == (
            "the pretrained network translates 1 channels to 3, "
            f"builtin:edges has {data.channels} and {data.other.channels}"
        )
    place = tmp_path / "training_networks" / "discriminator"
    objective.networks["generator"].save_pretrained(str(place))
    with refused("holds a UNetTranslator; discriminator must be PatchDiscriminator"):
        reload(tmp_path, Pix2PixArguments(), PAIRS)


def test_a_published_generator_gets_a_new_discriminator(tmp_path):
    first = pix2pix()
    first.pipeline(first.networks).save_pretrained(tmp_path)
    args = Pix2PixArguments(receptive_field=1, discriminator_width=3)
    again = reload(tmp_path, args, PAIRS)
    torch.testing.assert_close(
        again.networks["generator"].state_dict(), first.networks["generator"].state_dict(), rtol=0, atol=0
    )
    judge = again.networks["discriminator"].config
    assert (judge.in_channels, judge.receptive_field, judge.width, judge.norm) == (4, 1, 3, "batch")
    assert again.notes == (f"{tmp_path} holds no discriminator: built anew, to be trained from the beginning",)
    save_run(first, tmp_path / "whole", "output")
    assert reload(tmp_path / "whole", Pix2PixArguments(), PAIRS).notes == ()
    (tmp_path / "generator").rename(tmp_path / "elsewhere")
    with refused(r"holds no generator \(generator/ or training_networks/gen"):
        reload(tmp_path, Pix2PixArguments(), PAIRS)


# inference -----------------------------------------------------------------------------------------------------------


def test_pictures_and_held_out_errors():
    objective, batch = pix2pix(), pairs()
    for network in objective.networks.values():
        network.eval()
    generator = objective.networks["generator"]
    assert isinstance(generator, UNetTranslator)
    assert isinstance(objective.networks["discriminator"], PatchDiscriminator)
    assert isinstance(pix2pix(**RESNET).networks["generator"], ResNetTranslator)
    pipeline = objective.pipeline(objective.networks)
    assert pipeline.generator is generator and objective.ema == ("generator",)
    assert (pipeline.config.source_value_scale, pipeline.config.value_scale) == (255.0, 65535.0)

    with torch.no_grad():
        fake = generator(batch["conditioning_image"]).sample
        figures = objective.evaluate(objective.networks, batch, torch.Generator())
    pictures = objective.sample_grid(pipeline, batch, torch.Generator())
    assert pictures.keys() == {"image, translation, target"}
    (shown,) = pictures.values()
    assert shown.shape == (3, 3, 8, 24)
    condition = (batch["conditioning_image"] + 1) / 2
    assert torch.equal(shown[..., :8], condition.expand(-1, 3, 8, 8))
    torch.testing.assert_close(shown[..., 8:16], (fake + 1) / 2)
    torch.testing.assert_close(shown[..., 16:], (batch["target_image"] + 1) / 2)

    expected = (fake.double().numpy() - batch["target_image"].double().numpy()).__abs__().mean((1, 2, 3)) / 2
    assert figures.keys() == {"L1"}
    assert figures["L1"].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
