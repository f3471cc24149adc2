"""Translations that are admissible while they are learned: cone heads, projection, identity loss, Stokes vectors."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from hf_genmodels import ResNetTranslator, UserError
from hf_genmodels.blocks.polarimetry import ConeHead
from hf_genmodels.families.polarimetric import PolarimetricArguments, reload
from hf_genmodels.losses.polarimetry import same_camera
from hf_genmodels.objectives.polarimetric import PolarimetricObjective, camera
from hf_genmodels.pipelines.polarimetric import PolarimetricPipeline
from tests.objectives.test_polarimetric import (
    FLAT,
    SCENES,
    TINY,
    TURNED,
    A,
    B,
    pairs,
    pixels,
    polarimetric,
    scenes,
)
from tests.testing_utils.adversarial_objectives import assert_same_networks, phase_losses, save_run
from tests.testing_utils.refusals import refused

CONE = {"output_head": "cone"}
CAMERA = {"calibration": FLAT, "left_inverse": "orthogonal"}
NEGATIVE = [0.48, 0.5, 0.0, 0.5, 0.0, 0.51, 0.5, -0.5, 0.0, 0.5, 0.0, -0.52]


def strong(objective):
    """Weights large enough for translations of all sorts."""
    for parameter in objective.networks["generator_ab"].parameters():
        torch.nn.init.normal_(parameter, std=0.4, generator=torch.Generator().manual_seed(3))
    return objective


def slow_violations(sample, matrix=A):
    """Largest |y - A B y| and sqrt(S1^2 + S2^2) - S0 of all pixels of images in [-1, 1], in [0, 1]."""
    y = (sample.detach().double().numpy().transpose(0, 2, 3, 1).reshape(-1, 4) + 1) / 2
    s = y @ np.linalg.pinv(matrix).T
    return np.abs(y - s @ np.array(matrix).T).max(), (np.hypot(s[:, 1], s[:, 2]) - s[:, 0]).max()


# every image that anything of the training sees --------------------------------------------------------------------


@pytest.mark.parametrize("options", [CONE, CONE | {"intensity_source": "input"}, {"project_translations": True}])
@pytest.mark.parametrize("camera", [{}, CAMERA])
def test_discriminator_and_cycle_are_given_admissible_images_alone(options, camera):
    objective = strong(polarimetric(**options, **camera))
    seen, batch, cache = [], scenes(), {}
    for name in ("generator_ba", "discriminator_b"):
        objective.networks[name].register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0]))
    phase_losses(objective, "generators", batch, cache)
    seen.append(cache["fake_b"])
    phase_losses(objective, "discriminators", batch, cache)
    matrix = TURNED if camera else A
    real = batch["image_b"]
    fakes = [row for images in seen for row in images if not any(torch.equal(row, image) for image in real)]
    assert len(fakes) == 2 + 2 + 2 + 2  # to the cycle, to the discriminator, kept, to the discriminator again
    for fake in fakes:
        c1, c2 = slow_violations(fake[None], matrix)
        assert c1 < 1e-6 and c2 < 1e-6 and fake.abs().max() <= 1 + 1e-6
    free, _ = strong(polarimetric(**camera)), seen.clear()
    assert min(slow_violations(free.networks["generator_ab"](batch["image_a"]).sample, matrix)) > 0.01


def test_after_steps_of_training_it_is_still_exact():
    objective, batch = polarimetric(**CONE), scenes()
    optimizer = torch.optim.Adam(objective.networks["generator_ab"].parameters(), 0.3)
    for _ in range(3):
        losses = phase_losses(objective, "generators", batch)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        assert max(slow_violations(objective.networks["generator_ab"](batch["image_a"]).sample)) < 1e-6
        assert losses["C1"].item() < 255e-6 and losses["C2"].item() == pytest.approx(0, abs=0.05)
    assert not losses["C1"].requires_grad and not losses["C2"].requires_grad


# projection ----------------------------------------------------------------------------------------------------------


def test_projected_translations_are_the_nearest_dimmed_ones_and_their_losses_those_of_what_was_said():
    objective, batch, cache = strong(polarimetric(project_translations=True, cone_weight=0.5)), scenes(), {}
    losses = phase_losses(objective, "generators", batch, cache)
    raw = objective.networks["generator_ab"](batch["image_a"]).sample.detach()
    for image, row, column in np.ndindex(2, 8, 8):
        s = np.array(B) @ ((raw[image, :, row, column].double().numpy() + 1) / 2)
        length = math.hypot(s[1], s[2])
        if length > s[0]:
            s = (1 + s[0] / length) / 2 * np.array([length, s[1], s[2]])
        expected = np.array(A) @ s
        found = (cache["fake_b"][image, :, row, column] + 1) / 2
        np.testing.assert_allclose(found, expected / max(1, expected.max()), atol=1e-5)
    plain = strong(polarimetric(cone_weight=0.5))
    for name in ("C1", "C2"):
        expected = phase_losses(plain, "generators", batch)[name].item()
        assert losses[name].item() == pytest.approx(expected, rel=1e-5) and expected > 0
    assert losses["cycle_b"].item() != phase_losses(plain, "generators", batch)["cycle_b"].item()


def test_the_proximal_loss_takes_the_place_of_c2():
    image = pixels((100, 255, 100, 0), (200, 100, 0, 100))
    for kind, expected in (("relu", (255**2 - 200**2) / 2), ("proximal", (255 - 200) ** 2 / 4 / 2)):
        losses = polarimetric(cone_loss=kind, cone_weight=2.0).translation_losses(image, image, {})
        assert losses["C2"][0] == 2.0 and losses["C2"][1].item() == pytest.approx(expected, rel=1e-4)


def test_a_pipeline_projects_as_its_training_did(tmp_path):
    objective, image = strong(polarimetric(project_translations=True)), torch.rand(2, 3, 8, 8)
    objective.pipeline(objective.networks).save_pretrained(tmp_path)
    pipeline = PolarimetricPipeline.from_pretrained(tmp_path)
    by_default, projected, free = (pipeline(image, project=project) for project in (None, True, False))
    assert np.array_equal(by_default.images, projected.images) and not np.allclose(free.images, projected.images)
    assert by_default.violations["C1"].max() < 1e-6
    figures = objective.evaluate(objective.networks, scenes(), torch.Generator())
    assert figures["C1"].max() < 1e-6 and figures["C2 violated"].max() == 0


# what tells the angle ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("camera", [{}, CAMERA])
@pytest.mark.parametrize("stokes_weight", [0.0, 2.0])
def test_the_identity_loss_is_of_brightness_and_of_colours(camera, stokes_weight):
    objective = strong(polarimetric(identity_weight=3.0, stokes_weight=stokes_weight, **camera))
    batch = scenes()
    matrix = np.array(TURNED if camera else A)
    inverse = np.linalg.pinv(matrix) if camera else np.array(B)
    a, b = (batch[f"image_{domain}"].double().numpy() for domain in "ab")
    s = np.einsum("sk,nkhw->nshw", inverse, (b + 1) / 2)
    grey = np.repeat(2 * s[:, :1] * matrix[:, 0].mean() - 1, 3, axis=1)
    unpolarised = np.stack([((a + 1) / 2).mean(1).clip(0.5 / 255)] * 4, axis=1) * 2 - 1
    to_b, to_a = (objective.networks[name] for name in ("generator_ab", "generator_ba"))
    of_grey, of_unpolarised = (
        network(torch.tensor(image).float()).sample.detach().double().numpy()
        for network, image in ((to_b, grey), (to_a, unpolarised))
    )
    losses = phase_losses(objective, "generators", batch)
    assert losses["identity_a"].item() == pytest.approx(np.abs(of_unpolarised - a).mean(), rel=1e-4)

    def normalised(image):
        s0, s1, s2 = np.einsum("sk,nkhw->snhw", inverse, (image + 1) / 2)
        return np.stack([s1, s2]) / (s0.clip(0) + 0.02)

    expected = np.abs(of_grey - b).mean() + stokes_weight * np.abs(normalised(of_grey) - normalised(b)).mean()
    assert losses["identity_b"].item() == pytest.approx(expected, rel=1e-4)
    without = phase_losses(strong(polarimetric(**camera)), "generators", batch)
    together = without["loss"] + 3 * (losses["identity_a"] + losses["identity_b"])
    assert losses["loss"].item() == pytest.approx(together.item(), rel=1e-4)


def test_the_distance_of_pairs_can_be_of_stokes_vectors():
    objective, batch = polarimetric(paired_weight=2.0, stokes_weight=0.5, **CONE), pairs()
    cache = {}
    losses = phase_losses(objective, "generators", batch, cache)
    made, wanted = ((each.double().numpy() + 1) / 2 for each in (cache["fake_b"], batch["target_image"]))

    def normalised(y):
        return np.stack([y[:, 0] - y[:, 2], y[:, 1] - y[:, 3]]) / (y[:, 0] + y[:, 2] + 0.02)

    expected = 2 * np.abs(made - wanted).mean() + 0.5 * np.abs(normalised(made) - normalised(wanted)).mean()
    assert losses["paired"].item() == pytest.approx(expected, rel=1e-5)


def test_a_discriminator_of_stokes_vectors():
    objective, batch, seen, cache = polarimetric(discriminator_input="stokes"), scenes(), [], {}
    judge = objective.networks["discriminator_b"]
    assert judge.config.in_channels == 3
    judge.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0]))
    for phase in ("generators", "discriminators"):
        phase_losses(objective, phase, batch, cache)
    fake = objective.networks["generator_ab"](batch["image_a"]).sample.detach()
    for shown, image in zip([seen[0], *torch.cat(seen[1:]).split(2)], (fake, batch["image_b"], fake), strict=True):
        y = (image.double().numpy() + 1) / 2
        s0 = y[:, 0] + y[:, 2]
        s = np.stack([s0 - 1, (y[:, 0] - y[:, 2]) / (s0 + 0.02), (y[:, 1] - y[:, 3]) / (s0 + 0.02)], axis=1)
        np.testing.assert_allclose(shown.detach(), s, atol=1e-5)


# networks, options, saved runs -------------------------------------------------------------------------------------


def test_a_translator_of_ones_own_needs_no_head():
    class Own(ResNetTranslator):
        pass

    networks = polarimetric().networks | {"generator_ab": Own(3, 4, 8, width=2, num_blocks=1)}
    objective = PolarimetricObjective(**networks, data=SCENES, project_translations=True)
    assert phase_losses(objective, "generators", scenes())["loss"].requires_grad
    assert objective.pipeline(networks)(torch.rand(3, 8, 8)).violations["C1"].max() < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            CONE | {"calibration_weight": 0.5},
            "--calibration_weight has no meaning with --output_head cone, which leaves",
        ),
        (CONE | {"cone_weight": 0.0}, "--cone_weight has no meaning with --output_head cone"),
        (CONE | {"cone_loss": "proximal"}, "--cone_loss has no meaning with --output_head cone"),
        (CONE | {"project_translations": True}, "--project_translations has no meaning with --output_head cone"),
        ({"intensity_source": "input"}, "--intensity_source has no meaning with --output_head tanh"),
        ({"stokes_weight": 1.0}, "--stokes_weight has no meaning without --paired_weight and --identity_weight"),
        ({"stokes_weight": -1.0}, "--stokes_weight must be at least 0, got -1.0"),
        (
            {"calibration": NEGATIVE, "left_inverse": "orthogonal", **CONE},
            'output_head "cone" needs a calibration whose',
        ),
        (
            {"calibration": NEGATIVE, "left_inverse": "orthogonal", "project_translations": True},
            "project_translations needs a calibration whose rows",
        ),
    ],
)
def test_options_that_exclude_each_other(options, message):
    with refused(message):
        polarimetric(**options)


@pytest.mark.parametrize("place", ["output", "checkpoint"])
def test_training_goes_on_with_the_saved_head(place, tmp_path):
    options = CONE | CAMERA | {"intensity_source": "input", "discriminator_input": "stokes"}
    first = polarimetric(**options)
    folder = tmp_path / "checkpoint-4" / "networks"
    save_run(first, folder, place)
    (tmp_path / "training_args.json").write_text(json.dumps({"arguments": CAMERA}))
    given = PolarimetricArguments()
    again = reload(folder, given, SCENES)
    assert_same_networks(again, first)
    for name, value in options.items():
        found = getattr(given, name)
        assert found == (pytest.approx(value, abs=1e-7) if name == "calibration" else value)
    assert (again.calibration_weight, again.cone_weight, again.discriminator_input) == (0, 0, "stokes")
    assert given.width == TINY["width"]
    with refused("--calibration cannot be changed with --pretrained_model_name_or_path: the head of the saved"):
        reload(folder, PolarimetricArguments(calibration=[n for row in A for n in row]), SCENES)
    with refused("--intensity_source cannot be changed with --pretrained.*; the saved network has input"):
        reload(folder, PolarimetricArguments(intensity_source="output"), SCENES)


def test_a_pipeline_and_a_head_for_another_camera():
    network = ResNetTranslator(3, 4, 8, width=2, num_blocks=1, output_head="cone", calibration=TURNED)
    with pytest.raises(
        UserError, match=r"the head of generator_ab was made for calibration=\[\[0.5, .* calibration=None"
    ):
        PolarimetricPipeline(network)
    pipeline = PolarimetricPipeline(network, calibration=TURNED, left_inverse="orthogonal")
    assert pipeline(torch.rand(3, 8, 8)).violations["C1"].max() < 1e-6


@pytest.mark.parametrize("given", [[[1.0, 1.0], *A[1:]], A[:3], A[0], "A"])
@pytest.mark.parametrize(
    "take",
    [
        ConeHead,
        lambda given: camera(given, "orthogonal"),
        lambda given: same_camera(None, given),
        lambda given: PolarimetricPipeline(ResNetTranslator(3, 4, 8, width=2, num_blocks=1), calibration=given),
    ],
    ids=["head", "objective", "comparison", "pipeline"],
)
def test_a_calibration_that_is_no_matrix(take, given):
    with refused(r"calibration must be four rows \(I0, I45, I90, I135\) of three numbers \(S0, S1, S2\), got "):
        take(given)
