"""CycleGAN: losses of both phases against formulas written out, pools for the discriminators alone, saved runs."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_hook

from hf_genmodels import CycleGANPipeline, DataSpec, ResNetTranslator, UserError
from hf_genmodels.families.cyclegan import CycleGANArguments, build, layout, reload
from hf_genmodels.objectives.base import Noise
from hf_genmodels.objectives.cyclegan import DISCRIMINATOR_NAMES, TRANSLATOR_NAMES, CycleGANObjective
from hf_genmodels.training.train_cyclegan import main
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

B = DataSpec("user/b", 3, (8, 8), 65535.0, None, 80, "1" * 12)
DOMAINS = DataSpec("user/a", 1, (8, 8), 255.0, None, 100, "0" * 12, other=B)
ALIKE = dataclasses.replace(DOMAINS, channels=3)
RESNET = {"width": 2, "num_blocks": 1, "receptive_field": 16, "discriminator_width": 2}
UNET = {"architecture": "unet", "width": 2, "num_downs": 2, "receptive_field": 16, "discriminator_width": 2}
DISCO = {"gan_loss": "non_saturating", "reconstruction_loss": "mse", "cycle_weight": 1.0}


def cyclegan(data=DOMAINS, **options):
    torch.manual_seed(0)
    return build(CycleGANArguments(**(RESNET | options)), data)


def images(data=DOMAINS, seed=0, count=2):
    generator = torch.Generator().manual_seed(seed)
    assert data.other is not None
    channels = {"image_a": data.channels, "image_b": data.other.channels}
    return {name: torch.rand(count, c, 8, 8, generator=generator) * 2 - 1 for name, c in channels.items()}


def mean(values):
    return sum(values, torch.zeros(())) / len(values)


def entries(network, image):
    return list(network(image).logits.flatten())


def fooled(kind, logits):
    if kind == "least_squares":
        return mean([(d - 1) ** 2 for d in logits])
    return mean([-torch.log(1 / (1 + torch.exp(-d))) for d in logits])


def judging(kind, real, fake):
    if kind == "least_squares":
        return (mean([(d - 1) ** 2 for d in real]) + mean([d**2 for d in fake])) / 2
    real = [-torch.log(1 / (1 + torch.exp(-d))) for d in real]
    return (mean(real) + mean([-torch.log(1 - 1 / (1 + torch.exp(-d))) for d in fake])) / 2


def apart(kind, one, other):
    return mean([abs(d) if kind == "l1" else d * d for d in (one - other).flatten()])


def slow_generator_loss(objective, batch, kind="least_squares", distance="l1", cycle=10.0, identity=0.0):
    """Equation 3 of the paper, and the identity loss of section 5.2: G is from A to B, F back."""
    a, b = batch["image_a"], batch["image_b"]
    forth, back, judge_a, judge_b = (objective.networks[name] for name in (*TRANSLATOR_NAMES, *DISCRIMINATOR_NAMES))

    def g(x):
        return forth(x).sample

    def f(x):
        return back(x).sample

    loss = fooled(kind, entries(judge_b, g(a))) + fooled(kind, entries(judge_a, f(b)))
    loss = loss + cycle * (apart(distance, f(g(a)), a) + apart(distance, g(f(b)), b))
    if identity:
        loss = loss + identity * (apart(distance, g(b), b) + apart(distance, f(a), a))
    return loss


# losses --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "options", "formula"),
    [
        (DOMAINS, {}, {}),
        (DOMAINS, UNET | {"num_blocks": None, "norm": "batch"}, {}),
        (DOMAINS, {"cycle_weight": 3.0, "reconstruction_loss": "mse"}, {"cycle": 3.0, "distance": "mse"}),
        (ALIKE, {"identity_weight": 5.0}, {"identity": 5.0}),
        (
            ALIKE,
            {"identity_weight": 0.5, "reconstruction_loss": "mse", "cycle_weight": 0.0},
            {"identity": 0.5, "distance": "mse", "cycle": 0.0},
        ),
        (DOMAINS, DISCO, {"kind": "non_saturating", "distance": "mse", "cycle": 1.0}),
    ],
)
def test_losses_of_both_phases(data, options, formula):
    """The last one is DiscoGAN, equations 3 to 8: cross-entropy and mean squared errors that all count alike."""
    objective, batch, cache = cyclegan(data, **options), images(data), {}
    kind = formula.get("kind", "least_squares")
    expected = slow_generator_loss(objective, batch, **formula)
    forth, back, judge_a, judge_b = (objective.networks[name] for name in (*TRANSLATOR_NAMES, *DISCRIMINATOR_NAMES))
    fake_b, fake_a = forth(batch["image_a"]).sample.detach(), back(batch["image_b"]).sample.detach()

    losses = phase_losses(objective, "generators", batch, cache)
    assert_same_loss(losses["loss"], expected, objective, TRANSLATOR_NAMES)
    names = {"loss", "adversarial_a", "adversarial_b", "cycle_a", "cycle_b"}
    assert set(losses) == names | ({"identity_a", "identity_b"} if "identity" in formula else set())

    losses = phase_losses(objective, "discriminators", batch, cache)
    of_a = judging(kind, entries(judge_a, batch["image_a"]), entries(judge_a, fake_a))
    of_b = judging(kind, entries(judge_b, batch["image_b"]), entries(judge_b, fake_b))
    assert_same_loss(losses["loss"], of_a + of_b, objective, DISCRIMINATOR_NAMES)
    assert losses["loss_a"].item() == pytest.approx(of_a.item(), rel=1e-5)
    assert losses["loss_b"].item() == pytest.approx(of_b.item(), rel=1e-5)
    assert 0 <= losses["accuracy_a"].item() <= 1 and 0 <= losses["accuracy_b"].item() <= 1
    assert not cache


def shared_and_separate(objective, batch):
    """(loss, gradients, passes of each network) of both phases: as the objective does it, and one image at a time."""
    counted = []
    for in_one_pass in (None, False):
        if in_one_pass is False:
            for network in objective.networks.values():
                network.rows_are_independent = False
        cache, found, passes = {}, [], Counter()
        hook = register_module_forward_hook(lambda module, *_, passes=passes: passes.update([module]))
        for phase in objective.phases:
            losses = phase_losses(objective, phase.name, batch, cache)
            trained = [p for name in phase.trains for p in objective.networks[name].parameters()]
            found += [*losses.values(), *torch.autograd.grad(losses["loss"], trained)]
        hook.remove()
        counted.append((found, tuple(passes[network] for network in objective.networks.values())))
    return counted


@pytest.mark.parametrize(
    ("options", "shared", "separate"),
    [
        ({}, (2, 1, 2, 2), (2, 2, 3, 3)),
        ({"identity_weight": 5.0}, (2, 1, 2, 2), (3, 3, 3, 3)),
        (UNET | {"num_blocks": None, "identity_weight": 5.0}, (2, 1, 2, 2), (3, 3, 3, 3)),
        ({"identity_weight": 5.0, "gradient_penalty": "r1"}, (2, 1, 3, 3), (3, 3, 3, 3)),
        ({"identity_weight": 5.0, "norm": "batch"}, (3, 3, 3, 3), (3, 3, 3, 3)),
        ({"identity_weight": 5.0, "dropout": 0.5}, (3, 3, 2, 2), (3, 3, 3, 3)),
        ({"identity_weight": 5.0, "norm": "none", "gan_loss": "hinge"}, (2, 1, 2, 2), (3, 3, 3, 3)),
    ],
)
def test_images_that_go_through_one_network_go_as_one_batch(options, shared, separate):
    """Passes of G_AB, G_BA, D_A, D_B in both phases: fewer where rows are independent, and the same numbers."""
    objective = cyclegan(ALIKE, **options)
    for network in objective.networks.values():
        network.double()
    batch = {name: image.double() for name, image in images(ALIKE).items()}
    if objective.networks["generator_ab"].config.dropout:
        (_, passes), (_, apart) = shared_and_separate(objective, batch)
    else:
        (ours, passes), (theirs, apart) = shared_and_separate(objective, batch)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    assert (passes, apart) == (shared, separate)


@pytest.mark.parametrize("says", [False, True])
def test_a_translator_of_ones_own_shares_passes_if_it_says_so(says):
    own = type("Own", (ResNetTranslator,), {"rows_are_independent": says})
    objective = cyclegan(ALIKE)
    mine = CycleGANObjective(
        own(3, 3, 8, 2, 1), *(objective.networks[name] for name in ("generator_ba", *DISCRIMINATOR_NAMES)), ALIKE
    )
    ((ours, passes), (theirs, _)) = shared_and_separate(mine, images(ALIKE))
    assert passes == ((2, 1, 2, 2) if says else (2, 2, 2, 2))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_penalised_discriminators():
    options = {"gan_loss": "wasserstein", "gradient_penalty": "wgan_gp", "gradient_penalty_weight": 4.0}
    objective, batch, cache = cyclegan(norm="none", **options), images(), {}
    assert [phase.double_backward for phase in objective.phases] == [False, True]
    phase_losses(objective, "generators", batch, cache)
    fakes = {domain: cache[f"fake_{domain}"] for domain in "ab"}
    losses, noise, total = phase_losses(objective, "discriminators", batch, cache), seeded_noise(), 0
    for domain in "ab":
        judge, real = objective.networks[f"discriminator_{domain}"], batch[f"image_{domain}"]
        noise.uniform((len(real), 2), like=real)  # which of them come from the pool
        mix = noise.uniform((len(real),), like=real)
        critic = lambda x, index, judge=judge: judge(x[None]).logits.sum()  # noqa: E731
        penalty = slow_penalty("wgan_gp", 4.0, critic, real, fakes[domain], mix) / 2
        assert losses[f"penalty_{domain}"].item() == pytest.approx(penalty.item(), rel=1e-5)
        difference = mean(entries(judge, fakes[domain])) - mean(entries(judge, real))
        total = total + difference / 2 + penalty
    assert_same_loss(losses["loss"], total, objective, DISCRIMINATOR_NAMES)


def test_the_parts_are_named_after_the_domain_they_are_in():
    objective, batch = cyclegan(ALIKE, identity_weight=1.0), images(ALIKE)
    losses = phase_losses(objective, "generators", batch)
    a, b = batch["image_a"], batch["image_b"]
    forth, back = (objective.networks[name] for name in TRANSLATOR_NAMES)
    expected = {
        "adversarial_a": fooled("least_squares", entries(objective.networks["discriminator_a"], back(b).sample)),
        "adversarial_b": fooled("least_squares", entries(objective.networks["discriminator_b"], forth(a).sample)),
        "cycle_a": apart("l1", back(forth(a).sample).sample, a),
        "cycle_b": apart("l1", forth(back(b).sample).sample, b),
        "identity_a": apart("l1", back(a).sample, a),
        "identity_b": apart("l1", forth(b).sample, b),
    }
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-5), name
    assert len({value.item() for value in expected.values()}) == 6


@pytest.mark.parametrize("options", [{"norm": "batch"}, UNET | {"num_blocks": None, "norm": "none"}])
def test_a_phase_trains_all_of_its_networks_and_no_other(options):
    objective, batch, cache = cyclegan(**options), images(count=6), {}
    assert [(phase.name, phase.trains, phase.reuse_batch) for phase in objective.phases] == [
        ("generators", TRANSLATOR_NAMES, False),
        ("discriminators", DISCRIMINATOR_NAMES, True),
    ]
    for phase in objective.phases:
        for network in objective.networks.values():
            network.zero_grad(set_to_none=True)
        phase_losses(objective, phase.name, batch, cache)["loss"].backward()
        for name, network in objective.networks.items():
            for key, parameter in network.named_parameters():
                reached = parameter.grad is not None and parameter.grad.abs().sum() > 0
                assert reached == (name in phase.trains), f"{phase.name}: {name}.{key}"
    assert_only_trains(objective, "discriminators", batch)


def test_both_translators_learn_from_either_cycle():
    objective, batch = cyclegan(), images()
    losses = phase_losses(objective, "generators", batch)
    for part in ("cycle_a", "cycle_b"):
        for name in TRANSLATOR_NAMES:
            weights = [p for p in objective.networks[name].parameters() if p.ndim == 4]
            gradients = torch.autograd.grad(losses[part], weights, retain_graph=True)
            assert all(gradient.abs().sum() > 0 for gradient in gradients)


# pools ---------------------------------------------------------------------------------------------------------------


def slow_pool(store, size, fakes, draws):
    """What `size` earlier fakes of each row make of the fresh ones."""
    out = []
    for row, (fake, (coin, place)) in enumerate(zip(fakes, draws.tolist(), strict=True)):
        kept = store.setdefault(row, [])
        if len(kept) < size:
            kept.append(fake)
        elif coin < 0.5:
            kept[int(place * size)], fake = fake, kept[int(place * size)]
        out.append(fake)
    return torch.stack(out)


def test_earlier_fakes_are_for_the_discriminators_alone():
    objective, stores, old = cyclegan(pool_size=2), {"a": {}, "b": {}}, 0
    networks = objective.networks
    for step in range(8):
        batch, cache = images(seed=step), {}
        losses = phase_losses(objective, "generators", batch, cache, seed=step)
        expected = slow_generator_loss(objective, batch)
        assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-5)

        noise, total = seeded_noise(step), torch.zeros(())
        for domain, name, other in (("a", "generator_ba", "b"), ("b", "generator_ab", "a")):
            fresh = networks[name](batch[f"image_{other}"]).sample.detach()
            draws = noise.uniform((2, 2), like=fresh)
            seen = slow_pool(stores[domain], 2, fresh, draws)
            old += (seen != fresh).flatten(1).any(1).sum().item()
            judge = networks[f"discriminator_{domain}"]
            total = total + judging("least_squares", entries(judge, batch[f"image_{domain}"]), entries(judge, seen))
        losses = phase_losses(objective, "discriminators", batch, cache, seed=step)
        assert losses["loss"].item() == pytest.approx(total.item(), rel=1e-5)
    assert old > 5
    assert CycleGANArguments().pool_size == 50


def discriminator_loss(objective, batch, noise):
    cache = {}
    generators, discriminators = objective.phases
    with torch.no_grad():
        objective.losses(generators, objective.networks, batch, noise, cache)
        return objective.losses(discriminators, objective.networks, batch, noise, cache)["loss"].item()


def test_a_resumed_run_has_its_pools(tmp_path):
    objective = cyclegan(pool_size=2)
    for step in range(4):
        discriminator_loss(objective, images(seed=step), seeded_noise(step))
    torch.save(objective.state_dict(), tmp_path / "state.pt")
    again, fresh = cyclegan(pool_size=2), cyclegan(pool_size=2)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    differences = 0
    for step in range(4, 12):
        one, two, three = (
            discriminator_loss(o, images(seed=step), seeded_noise(step)) for o in (objective, again, fresh)
        )
        assert one == two
        differences += one != three
    assert differences > 3


def test_two_processes_are_one():
    """A batch of 2 in one process, and one image each in two: the losses' mean, and the pools."""
    whole, processes = cyclegan(pool_size=2), [cyclegan(pool_size=2) for _ in range(2)]
    for step in range(8):
        batch = images(seed=step)
        expected = discriminator_loss(whole, batch, Noise(step))
        losses = []
        for rank, objective in enumerate(processes):
            mine = {name: image[rank : rank + 1] for name, image in batch.items()}
            losses.append(discriminator_loss(objective, mine, Noise(step, rank, 2)))
        assert sum(losses) / 2 == pytest.approx(expected, rel=1e-5)
    for domain in ("a", "b"):
        stored = whole.state_dict()[domain]["stored"][0]
        shares = [objective.state_dict()[domain]["stored"][rank] for rank, objective in enumerate(processes)]
        torch.testing.assert_close(torch.cat(shares, 1), stored)


# options -------------------------------------------------------------------------------------------------------------


def test_the_papers_options_are_the_defaults():
    args = CycleGANArguments()
    assert (args.architecture, args.norm, args.dropout, args.gan_loss) == ("resnet", "instance", 0.0, "least_squares")
    assert (args.cycle_weight, args.identity_weight, args.reconstruction_loss) == (10.0, 0.0, "l1")
    assert (args.receptive_field, args.width, args.discriminator_width) == (70, 64, 64)
    assert args.loop_defaults == {
        "learning_rate": 2e-4,
        "adam_beta1": 0.5,
        "train_batch_size": 1,
        "lr_scheduler": "constant_then_linear",
    }
    assert layout(args).kind == "domains"


def test_the_objective_has_the_defaults_of_the_options():
    args = CycleGANArguments()
    for name, parameter in inspect.signature(CycleGANObjective).parameters.items():
        assert parameter.default in (inspect.Parameter.empty, getattr(args, name, None)), name


def test_networks_of_both_directions():
    objective = cyclegan()
    channels = [(o.config.in_channels, o.config.get("out_channels")) for o in objective.networks.values()]
    assert list(objective.networks) == [*TRANSLATOR_NAMES, *DISCRIMINATOR_NAMES]
    assert channels == [(1, 3), (3, 1), (1, None), (3, None)]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (DOMAINS, {"cycle_weight": -1.0}, "--cycle_weight must be at least 0, got -1.0"),
        (DOMAINS, {"identity_weight": -1.0}, "--identity_weight must be at least 0, got -1.0"),
        (DOMAINS, {"pool_size": -1}, "--pool_size must be at least 0, got -1"),
        (
            DOMAINS,
            {"gan_loss": "wasserstein"},
            "--gan_loss wasserstein needs a Lipschitz critic: give --gradient_penalty wgan_gp",
        ),
        (
            DOMAINS,
            {"identity_weight": 1.0},
            "--identity_weight needs domains of as many channels, but A has 1 and B has 3; leave it out",
        ),
        (
            dataclasses.replace(DOMAINS, other=dataclasses.replace(B, size=(16, 16))),
            {},
            "the images of domain A have shape (1, 8, 8), those of B (3, 16, 16); give --resolution",
        ),
    ],
)
def test_options_that_mean_nothing(data, options, message):
    with pytest.raises(UserError) as error:
        build(CycleGANArguments(**options), data)
    assert str(error.value) == message


# saved runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["output", "checkpoint"])
@pytest.mark.parametrize("options", [{}, UNET | {"num_blocks": None, "norm": "batch", "norm_statistics": "image"}])
def test_from_saved_networks(options, place, tmp_path):
    first = cyclegan(**options)
    save_run(first, tmp_path, place)
    assert (tmp_path / "training_networks" / "discriminator_a").is_dir() == (place == "output")
    for given in (CycleGANArguments(), CycleGANArguments(**(RESNET | options))):
        again = reload(tmp_path, given, DOMAINS)
        assert_same_networks(again, first)
        assert dataclasses.asdict(given) == dataclasses.asdict(CycleGANArguments(**(RESNET | options)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 3}, "--width cannot be changed with --pretrained.*; the saved network has 2"),
        ({"architecture": "unet"}, "--architecture cannot be changed with .*; the saved network has resnet"),
        ({"num_blocks": 3}, "--num_blocks cannot be changed with .*; the saved network has 1"),
        ({"num_downs": 3}, "--num_downs cannot be changed with .*; the saved network has none"),
        ({"receptive_field": 1}, "--receptive_field cannot be changed with .*; the saved network has 16"),
        ({"pool_size": -2}, "--pool_size must be at least 0, got -2"),
    ],
)
def test_saved_networks_and_options_that_contradict_them(options, message, tmp_path):
    save_run(cyclegan(), tmp_path, "output")
    with refused(message):
        reload(tmp_path, CycleGANArguments(**options), DOMAINS)


def test_saved_networks_that_do_not_fit(tmp_path):
    save_run(cyclegan(), tmp_path, "output")
    with pytest.raises(UserError) as error:
        reload(tmp_path, CycleGANArguments(), ALIKE)
    assert str(error.value) == "the pretrained network translates 1 channels to 3, user/a has 3 and 3"
    (tmp_path / "generator_ab").rename(tmp_path / "elsewhere")
    with refused("holds no generator_ab "):
        reload(tmp_path, CycleGANArguments(), DOMAINS)


def test_one_published_direction_gets_the_other_and_discriminators(tmp_path):
    first = cyclegan(norm="batch", norm_statistics="image")
    CycleGANPipeline(first.networks["generator_ab"], None).save_pretrained(tmp_path)
    args = CycleGANArguments(receptive_field=16, discriminator_width=2)
    again = reload(
        tmp_path, args, dataclasses.replace(DOMAINS, size=(16, 16), other=dataclasses.replace(B, size=(16, 16)))
    )
    assert list(again.networks) == [*TRANSLATOR_NAMES, *DISCRIMINATOR_NAMES]
    forth, back, judge_a, judge_b = (network.config for network in again.networks.values())
    torch.testing.assert_close(
        again.networks["generator_ab"].state_dict(), first.networks["generator_ab"].state_dict(), rtol=0, atol=0
    )
    assert (back.in_channels, back.out_channels, back.sample_size) == (3, 1, 16) == (3, 1, forth.sample_size)
    assert {name: back[name] for name in ("width", "norm", "norm_statistics", "num_blocks")} == {
        name: forth[name] for name in ("width", "norm", "norm_statistics", "num_blocks")
    }
    assert [(judge.in_channels, judge.width, judge.norm) for judge in (judge_a, judge_b)] == [
        (1, 2, "batch"),
        (3, 2, "batch"),
    ]
    missing = "generator_ba, discriminator_a, discriminator_b"
    assert again.notes == (f"{tmp_path} holds no {missing}: built anew, to be trained from the beginning",)


# inference -----------------------------------------------------------------------------------------------------------


def test_pictures_and_held_out_errors():
    objective, batch = cyclegan(), images(count=3)
    for network in objective.networks.values():
        network.eval()
    pipeline = objective.pipeline(objective.networks)
    assert pipeline.generator_ab is objective.networks["generator_ab"] and objective.ema == TRANSLATOR_NAMES
    assert pipeline.generator_ba is objective.networks["generator_ba"]
    assert (pipeline.config.source_value_scale, pipeline.config.value_scale) == (255.0, 65535.0)

    a, b = batch["image_a"], batch["image_b"]
    with torch.no_grad():
        to_b, to_a = ((lambda x, n=n: objective.networks[n](x).sample) for n in TRANSLATOR_NAMES)
        shown = {"a": (a, to_b(a), to_a(to_b(a))), "b": (b, to_a(b), to_b(to_a(b)))}
        figures = objective.evaluate(objective.networks, batch, torch.Generator())
    pictures = objective.sample_grid(pipeline, batch, torch.Generator())
    assert list(pictures) == ["a, translation, cycle", "b, translation, cycle"]
    for domain, expected in shown.items():
        grid = pictures[f"{domain}, translation, cycle"]
        assert grid.shape == (3, 3, 8, 24)
        for place, image in enumerate(expected):
            torch.testing.assert_close(grid[..., 8 * place : 8 * place + 8], (image.expand(-1, 3, -1, -1) + 1) / 2)
    for name, (image, _, cycle) in zip(("cycle L1 of A", "cycle L1 of B"), shown.values(), strict=True):
        errors = [abs(o - c).double().mean().item() / 2 for o, c in zip(image, cycle, strict=True)]
        assert figures[name].tolist() == pytest.approx(errors, rel=1e-5)


@pytest.mark.parametrize(("num_a", "num_b"), [(2, 5), (5, 2)])
def test_held_out_errors_are_those_of_every_image(num_a, num_b, tmp_path):
    draw = np.random.default_rng(0)
    for name, count in {"trainA": 2, "trainB": 2, "testA": num_a, "testB": num_b}.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 20 + 50 * number, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    options = "--width 2 --discriminator_width 2 --receptive_field 16 --num_blocks 0 --eval_batch_size 2"
    options += f" --max_train_steps 1 --num_threads 1 --output_dir {tmp_path / 'run'}"
    main(["--train_data_dir", str(tmp_path / "data"), *options.split()])
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())["validation"]
    pipeline = CycleGANPipeline.from_pretrained(tmp_path / "run")
    for side, there, back in (("A", "a_to_b", "b_to_a"), ("B", "b_to_a", "a_to_b")):
        errors = []
        for file in sorted((tmp_path / "data" / f"test{side}").iterdir()):
            image = torch.from_numpy(np.array(Image.open(file)))[None, None] / 255
            translation = pipeline(image, direction=there, output_type="pt").images
            errors.append((pipeline(translation, direction=back, output_type="pt").images - image).abs().mean().item())
        assert found[f"cycle L1 of {side}"] == pytest.approx(sum(errors) / len(errors), rel=1e-4)
