"""Which options of the GAN go together, what they build, and how saved networks are taken up again."""

from __future__ import annotations

import dataclasses
import re

import pytest

from hf_genmodels import UserError
from hf_genmodels.families.gan import GANArguments, reload
from tests.testing_utils.adversarial_objectives import (
    DCGAN,
    GAN_REFUSED,
    IMAGES_16,
    IMAGES_32,
    MLP,
    assert_same_networks,
    gan_arguments,
    gan_objective,
    save_run,
)
from tests.testing_utils.objectives import IMAGES, VECTORS
from tests.testing_utils.refusals import refused


@pytest.mark.parametrize(
    ("data", "options", "norm"),
    [
        (IMAGES_16, DCGAN, "batch"),
        (IMAGES_16, DCGAN | {"gradient_penalty": "r1"}, "layer"),
        (IMAGES_16, DCGAN | {"gradient_penalty": "r1", "discriminator_norm": "instance"}, "instance"),
        (IMAGES_16, DCGAN | {"discriminator_norm": "spectral", "gan_loss": "wasserstein"}, "spectral"),
        (IMAGES_32, DCGAN | {"architecture": "avae"}, "batch"),
        (IMAGES_32, DCGAN | {"architecture": "avae", "gan_loss": "hinge", "gradient_penalty": "wgan_gp"}, "layer"),
        (IMAGES_32, DCGAN | {"architecture": "sngan", "gan_loss": "wasserstein"}, "spectral"),
        (IMAGES_32, DCGAN | {"architecture": "sngan", "gradient_penalty": "r1"}, "spectral"),
        (IMAGES_32, DCGAN | {"architecture": "sngan", "discriminator_norm": "none"}, "none"),
    ],
)
def test_norm_of_the_discriminator(data, options, norm):
    objective = gan_objective(data, **options)
    discriminator = objective.networks["discriminator"]
    assert discriminator.config.norm == norm
    assert any("parametrizations" in name for name, _ in discriminator.named_parameters()) == (norm == "spectral")
    assert discriminator.config.get("kernel_size") == {"dcgan": 4, "avae": 5, "sngan": None}[options["architecture"]]


@pytest.mark.parametrize(("gan_loss", "gradient_penalty"), sorted(GAN_REFUSED))
def test_losses_and_penalties_that_exclude_each_other(gan_loss, gradient_penalty):
    message = f"--gan_loss {gan_loss} and --gradient_penalty {gradient_penalty} exclude each other; choose one of none"
    with refused(message):
        gan_objective(gan_loss=gan_loss, gradient_penalty=gradient_penalty)


SNGAN = DCGAN | {"architecture": "sngan"}
MISUSE = [
    (IMAGES_32, SNGAN | {"gan_loss": "wasserstein", "discriminator_norm": "none"}, "needs a Lipschitz critic"),
    (VECTORS, {"weight_clip": 0.1}, "--weight_clip is for --gan_loss wasserstein without a --gradient_penalty"),
    (
        VECTORS,
        {"gan_loss": "wasserstein", "gradient_penalty": "wgan_gp", "weight_clip": 0.1},
        "--weight_clip is for --gan_loss wasserstein without a --gradient_penalty",
    ),
    (VECTORS, {"gan_loss": "wasserstein", "weight_clip": 0.0}, "--weight_clip must be positive, got 0.0"),
    (
        VECTORS,
        {"gradient_penalty_weight": 1.0},
        "--gradient_penalty_weight has no meaning with --gradient_penalty none",
    ),
    (
        VECTORS,
        {"gradient_penalty": "r1", "gradient_penalty_weight": -1.0},
        "--gradient_penalty_weight must be at least 0",
    ),
    (
        IMAGES_16,
        DCGAN | {"gradient_penalty": "r1", "discriminator_norm": "batch"},
        "--discriminator_norm batch and --gradient_penalty r1 exclude each other: a logit must depend on its own",
    ),
    (
        IMAGES_16,
        DCGAN | {"packing": 2, "conditioning": "projection"},
        "--packing 2 does not go with --conditioning projection; it needs none or cgan",
    ),
    (
        IMAGES_32,
        SNGAN | {"packing": 2},
        "--packing 2 does not go with --architecture sngan; it needs dcgan or avae or mlp",
    ),
    (
        IMAGES_32,
        SNGAN | {"conditioning": "cgan"},
        "--conditioning cgan does not exist with --architecture sngan; choose",
    ),
    (IMAGES, {"conditioning": "acgan"}, "--conditioning acgan does not exist with --architecture mlp"),
    (IMAGES, {"class_weight": 2.0}, "--class_weight has no meaning with --conditioning none"),
    (
        VECTORS,
        {"conditioning": "cgan"},
        "--conditioning cgan needs labels, but builtin:toy2d has none; name the column",
    ),
    (VECTORS, {"critic_updates": 0}, "--critic_updates must be at least 1"),
    (
        VECTORS,
        {"critic_updates": 2, "share_fakes": True},
        "--share_fakes and --critic_updates 2 exclude each other: drop one of them",
    ),
    (VECTORS, {"discriminator_learning_rate": 0.0}, "--discriminator_learning_rate must be positive, got 0.0"),
    (VECTORS, {"packing": 0}, "--packing must be at least 1"),
    (IMAGES, DCGAN | {"conditioning": "acgan", "class_weight": -1.0}, "--class_weight must be at least 0"),
    (VECTORS, {"latent_dim": 0}, "--latent_dim must be at least 1"),
    (VECTORS, {"width": 4}, "--width has no meaning with --architecture mlp"),
    (VECTORS, {"discriminator_norm": "spectral"}, "--discriminator_norm has no meaning with --architecture mlp"),
    (VECTORS, {"norm_statistics": "batch"}, "--norm_statistics has no meaning with --architecture mlp"),
    (VECTORS, {"hidden_dims": [8, 0]}, "--hidden_dims must be at least 1, got 8 0"),
    (VECTORS, DCGAN, "--architecture dcgan needs images, but builtin:toy2d has vectors; use --architecture mlp"),
    (IMAGES_16, DCGAN | {"hidden_dims": [8]}, "--hidden_dims has no meaning with --architecture dcgan"),
    (IMAGES_16, DCGAN | {"width": 0}, "--width must be at least 1"),
    (
        IMAGES_32,
        SNGAN | {"discriminator_norm": "batch"},
        "--discriminator_norm batch does not exist with --architecture",
    ),
]


@pytest.mark.parametrize(("data", "options", "message"), MISUSE)
def test_refused_options(data, options, message):
    with refused(re.escape(message)):
        gan_objective(data, **options)


ADVICE = "--gan_loss wasserstein needs a Lipschitz critic: give "
PENALTY, CLIP, SPECTRAL = "--gradient_penalty wgan_gp", "--weight_clip 0.01", "--discriminator_norm spectral"


@pytest.mark.parametrize(
    ("data", "options", "ways"),
    [
        (VECTORS, MLP, [PENALTY, CLIP]),
        (IMAGES_16, DCGAN, [PENALTY, CLIP, SPECTRAL]),
        (IMAGES_16, DCGAN | {"discriminator_norm": "batch"}, [CLIP, SPECTRAL]),
    ],
)
def test_advice_for_the_wasserstein_loss_can_be_followed(data, options, ways):
    with pytest.raises(UserError) as error:
        gan_objective(data, **options, gan_loss="wasserstein")
    assert str(error.value) == ADVICE + " or ".join(ways)
    for way in ways:
        name, value = way.removeprefix("--").split()
        number = float(value) if name == "weight_clip" else value
        gan_objective(data, **options | {"gan_loss": "wasserstein", name: number})


@pytest.mark.parametrize("size", [8, 16, 28])
def test_images_of_a_size_that_sngan_does_not_have(size):
    with pytest.raises(UserError) as error:
        gan_objective(dataclasses.replace(IMAGES, size=(size, size)), **SNGAN)
    assert str(error.value) == (
        f"--architecture sngan needs images of 32, 64 or 128 pixels, builtin:digits has {size}; use --resolution 32"
    )


def test_images_of_twenty_eight_pixels_need_another_size():
    data = dataclasses.replace(IMAGES_16, size=(28, 28))
    with refused(r"28.* is no power of two of at least 8; use 32 \(--resolution\)"):
        gan_objective(data, **DCGAN)
    gan_objective(data)  # a dense one takes them


def test_only_what_excludes_packing_is_named():
    with pytest.raises(UserError) as error:
        gan_objective(IMAGES_16, **DCGAN, packing=2, conditioning="acgan")
    assert str(error.value) == "--packing 2 does not go with --conditioning acgan; it needs none or cgan"


def test_learning_rates():
    plain, separate = gan_objective(), gan_objective(discriminator_learning_rate=3e-4)
    assert [plain.param_groups(name)[0].get("lr") for name in ("generator", "discriminator")] == [None, None]
    assert [separate.param_groups(name)[0].get("lr") for name in ("generator", "discriminator")] == [None, 3e-4]
    for name, network in separate.networks.items():
        (group,) = separate.param_groups(name)
        assert len(group["params"]) == len(list(network.parameters()))


# saved networks ------------------------------------------------------------------------------------------------------


SAVED = [
    (VECTORS, MLP | {"packing": 2}),
    (IMAGES, MLP | {"conditioning": "cgan"}),
    (IMAGES_16, DCGAN | {"gradient_penalty": "r1", "norm_statistics": "batch", "conditioning": "projection"}),
    (IMAGES_32, DCGAN | {"architecture": "avae", "conditioning": "acgan", "discriminator_norm": "spectral"}),
    (IMAGES_32, SNGAN | {"gan_loss": "hinge"}),
]


@pytest.mark.parametrize("layout", ["output", "checkpoint"])
@pytest.mark.parametrize(("data", "options"), SAVED)
def test_from_saved_networks(data, options, layout, tmp_path):
    first, built = gan_objective(data, **options), gan_arguments(**options)
    save_run(first, tmp_path, layout)
    assert (tmp_path / "training_networks" / "discriminator").is_dir() == (layout == "output")
    shapes = {"latent_dim", "architecture", "packing", "conditioning", "norm_statistics"}
    for given in (GANArguments(), GANArguments(**options)):
        if "gradient_penalty" in options:
            given.gradient_penalty = "r1"
        again = reload(tmp_path, given, data)
        assert_same_networks(again, first)
        assert {name: getattr(given, name) for name in shapes} == {name: getattr(built, name) for name in shapes}
        assert given.hidden_dims == built.hidden_dims and given.width == built.width
        assert again.batch_multiple == first.batch_multiple
        if options["architecture"] != "mlp":
            assert given.discriminator_norm == first.networks["discriminator"].config.norm


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 50}, "--latent_dim cannot be changed with --pretrained.*; the saved network has 3"),
        ({"packing": 2}, "--packing cannot be changed with --pretrained.*; the saved network has 1"),
        ({"conditioning": "cgan"}, "--conditioning cannot be changed with .*; the saved network has none"),
        ({"hidden_dims": [4]}, "--hidden_dims cannot be changed with .*; the saved network has 8"),
        ({"width": 4}, "--width cannot be changed with .*; the saved network has none"),
        ({"architecture": "avae"}, "--architecture cannot be changed with .*; the saved network has mlp"),
        ({"norm_statistics": "batch"}, "--norm_statistics cannot be changed with .*; the saved network has running"),
        (
            {"discriminator_norm": "layer"},
            "--discriminator_norm cannot be changed with .*; the saved network has none",
        ),
        ({"gan_loss": "wasserstein"}, "--gan_loss wasserstein needs a Lipschitz critic"),
        ({"gan_loss": "hinge", "gradient_penalty": "roth"}, "exclude each other"),
        ({"critic_updates": 2, "share_fakes": True}, "--share_fakes and --critic_updates 2 exclude each other"),
        ({"discriminator_learning_rate": -1.0}, "--discriminator_learning_rate must be positive, got -1.0"),
    ],
)
def test_saved_networks_and_options_that_contradict_them(options, message, tmp_path):
    save_run(gan_objective(), tmp_path, "output")
    with refused(message):
        reload(tmp_path, GANArguments(**options), VECTORS)


def test_dense_options_and_saved_convolutions(tmp_path):
    save_run(gan_objective(IMAGES_16, **DCGAN), tmp_path, "output")
    with refused(r"--hidden_dims cannot be changed with .*; the saved network has none"):
        reload(tmp_path, GANArguments(hidden_dims=[8]), IMAGES_16)
    with pytest.raises(UserError) as error:
        reload(tmp_path, GANArguments(gradient_penalty="r1"), IMAGES_16)
    assert str(error.value) == (
        "the saved discriminator's batch normalisation and --gradient_penalty r1 exclude each other: a logit must "
        "depend on its own sample alone; leave the penalty out or train a new model"
    )
    with pytest.raises(UserError) as error:
        reload(tmp_path, GANArguments(gan_loss="wasserstein"), IMAGES_16)
    assert str(error.value) == ADVICE + CLIP


def test_saved_networks_that_do_not_fit(tmp_path):
    objective = gan_objective(IMAGES, conditioning="cgan")
    save_run(objective, tmp_path, "output")
    place = tmp_path / "training_networks" / "discriminator"
    with refused(r"takes samples of shape \(1, 8, 8\), builtin:toy2d has \(2,\)"):
        reload(tmp_path, GANArguments(), VECTORS)
    fewer = dataclasses.replace(IMAGES, class_names=("a", "b"))
    with refused("the saved model knows 3 classes, builtin:digits has 2"):
        reload(tmp_path, GANArguments(), fewer)
    unlabelled = dataclasses.replace(IMAGES, class_names=None)
    with refused("this model needs labels, but builtin:digits has none"):
        reload(tmp_path, GANArguments(), unlabelled)

    objective.networks["generator"].save_pretrained(str(place))
    with pytest.raises(
        UserError, match="holds a MLPGenerator; discriminator must be DCGANDiscriminator or SNGAN"
    ) as e:
        reload(tmp_path, GANArguments(), IMAGES)
    assert str(place) in str(e.value) and "\n" not in str(e.value)

    place.rename(tmp_path / "elsewhere")
    with refused(r"holds no discriminator \(discriminator/ or training_networks/disc"):
        reload(tmp_path, GANArguments(), IMAGES)
