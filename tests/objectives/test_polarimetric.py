"""The physics in the objective: C1 and C2 of hand-made translations, pairs, calibrations, saved runs, figures."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hf_genmodels import DataSpec, UserError
from hf_genmodels.families.polarimetric import PolarimetricArguments, build, layout, reload
from hf_genmodels.objectives.cyclegan import DISCRIMINATOR_NAMES, TRANSLATOR_NAMES, CycleGANObjective
from hf_genmodels.objectives.polarimetric import PolarimetricObjective
from tests.testing_utils.adversarial_objectives import assert_same_networks, phase_losses, save_run
from tests.testing_utils.refusals import refused

ANGLES = DataSpec("builtin:polarimetric", 4, (8, 8), 1.0, None, 100, "1" * 12, mirrored_channels=(0, 3, 2, 1))
SCENES = DataSpec("builtin:polarimetric", 3, (8, 8), 255.0, None, 100, "0" * 12, other=ANGLES)
TINY = {"width": 2, "num_blocks": 1, "receptive_field": 16, "discriminator_width": 2}
A = [[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.5, -0.5, 0.0], [0.5, 0.0, -0.5]]
B = [[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0]]
# A camera that is turned by 0.2 rad.
TURNED = [[0.5, math.cos(2 * t) / 2, math.sin(2 * t) / 2] for t in (0.2 + k * math.pi / 4 for k in range(4))]
FLAT = [number for row in TURNED for number in row]


def polarimetric(data=SCENES, **options):
    torch.manual_seed(0)
    return build(PolarimetricArguments(**(TINY | options)), data)


def scenes(seed=0, count=2, names=("image_a", "image_b")):
    generator = torch.Generator().manual_seed(seed)
    shapes = dict(zip(names, (3, 4), strict=True))
    return {name: torch.rand(count, c, 8, 8, generator=generator) * 2 - 1 for name, c in shapes.items()}


def pairs(**options):
    return scenes(names=("conditioning_image", "target_image"), **options)


def pixels(*intensities):
    """Images of one row of pixels, each (I0, I45, I90, I135) in [0, 255], on the scale of a network."""
    return torch.tensor(intensities, dtype=torch.float32).T[None, :, None] / 127.5 - 1


def slow_physics(sample, matrix=A, inverse=B):
    """L_C1 and L_C2 of the thesis, pixel by pixel, of intensities in [0, 255]."""
    matrix, inverse, c1, c2 = np.array(matrix), np.array(inverse), [], []
    for image in sample.double().numpy():
        for y in (image.reshape(4, -1).T + 1) * 127.5:
            s = inverse @ y
            c1.append(np.sqrt(np.square(y - matrix @ s).sum()))
            c2.append(max(s[1] ** 2 + s[2] ** 2 - s[0] ** 2, 0))
    return np.mean(c1), np.mean(c2)


# losses --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("intensities", "c1", "c2"),
    [
        ([(100, 100, 100, 100)], 0.0, 0.0),  # depolarised
        ([(200, 100, 0, 100)], 0.0, 0.0),  # fully polarised at 0 degrees
        ([(200, 50, 100, 30)], 220 / math.sqrt(2), 0.0),  # I0 + I90 = 300, I45 + I135 = 80
        ([(100, 255, 100, 0)], 55 / math.sqrt(2), 255**2 - 200**2),
        ([(0, 255, 0, 0)], 255 / math.sqrt(2), 255**2),  # the most that C2 can be
        ([(200, 50, 100, 30), (100, 255, 100, 0)], 275 / math.sqrt(2) / 2, (255**2 - 200**2) / 2),
    ],
)
def test_hand_made_translations(intensities, c1, c2):
    losses = polarimetric(calibration_weight=2.0, cone_weight=3.0).translation_losses(*[pixels(*intensities)] * 2, {})
    assert set(losses) == {"C1", "C2"}
    assert losses["C1"][0] == 2.0 and losses["C1"][1].item() == pytest.approx(c1, rel=1e-5, abs=1e-3)
    assert losses["C2"][0] == 3.0 and losses["C2"][1].item() == pytest.approx(c2, rel=1e-4, abs=1e-2)
    assert slow_physics(pixels(*intensities)) == pytest.approx((c1, c2), rel=1e-4, abs=0.02)


@pytest.mark.parametrize(
    ("options", "matrices"),
    [
        ({}, (A, B)),
        ({"left_inverse": "orthogonal"}, (A, np.linalg.pinv(A))),
        ({"left_inverse": "orthogonal", "calibration": FLAT}, (TURNED, np.linalg.pinv(TURNED))),
    ],
)
def test_losses_are_those_of_cyclegan_and_of_physics(options, matrices):
    objective, batch, cache = polarimetric(calibration_weight=0.7, cone_weight=0.01, **options), scenes(), {}
    losses = phase_losses(objective, "generators", batch, cache)
    plain = CycleGANObjective(**objective.networks, data=SCENES)
    expected = phase_losses(plain, "generators", batch)
    c1, c2 = slow_physics(cache["fake_b"], *matrices)
    assert losses["C1"].item() == pytest.approx(c1, rel=1e-4)
    assert losses["C2"].item() == pytest.approx(c2, rel=1e-4, abs=1e-3)
    assert losses["loss"].item() == pytest.approx(expected["loss"].item() + 0.7 * c1 + 0.01 * c2, rel=1e-4)
    assert set(losses) == set(expected) | {"C1", "C2"}
    one, two = (phase_losses(o, "discriminators", batch, dict(cache))["loss"].item() for o in (objective, plain))
    assert one == two


def test_the_figures_of_unconstrained_translations_carry_no_gradient():
    weights = {"calibration_weight": 0.0, "cone_weight": 0.0}
    objective, batch = polarimetric(**weights), scenes()
    losses = phase_losses(objective, "generators", batch)
    assert not losses["C1"].requires_grad and not losses["C2"].requires_grad
    c1, c2 = slow_physics(objective.networks["generator_ab"](batch["image_a"]).sample.detach())
    assert losses["C1"].item() == pytest.approx(c1, rel=1e-4) and c1 > 0
    assert losses["C2"].item() == pytest.approx(c2, rel=1e-4, abs=1e-3)
    plain = phase_losses(CycleGANObjective(**objective.networks, data=SCENES), "generators", batch)
    assert losses["loss"].item() == pytest.approx(plain["loss"].item(), rel=1e-6)
    one = phase_losses(polarimetric(calibration_weight=0.0), "generators", batch)
    assert one["C2"].requires_grad and not one["C1"].requires_grad


def test_physics_trains_the_translator_to_polarimetric_images_alone():
    objective, batch = polarimetric(), scenes()
    objective.networks["generator_ab"].to_image.bias.data += torch.tensor([0.0, 2.0, 0.0, -2.0])  # violates C2
    losses = phase_losses(objective, "generators", batch)
    for part in ("C1", "C2"):
        assert losses[part].item() > 0
        for name, reached in zip(TRANSLATOR_NAMES, (True, False), strict=True):
            weights = [p for p in objective.networks[name].parameters() if p.ndim == 4]
            gradients = torch.autograd.grad(losses[part], weights, retain_graph=True, allow_unused=True)
            assert all((g is not None and g.abs().sum() > 0) == reached for g in gradients)


def test_the_gradient_is_finite_where_the_image_is_admissible():
    sample = pixels((100, 100, 100, 100), (255, 127.5, 0, 127.5)).requires_grad_()
    losses = polarimetric().translation_losses(sample, sample, {})
    (losses["C1"][1] + losses["C2"][1]).backward()
    assert sample.grad is not None and sample.grad.isfinite().all()


@pytest.mark.parametrize("distance", ["l1", "mse"])
def test_pairs(distance):
    options = {"paired_weight": 4.0, "reconstruction_loss": distance}
    objective, batch, cache = polarimetric(**options), pairs(), {}
    losses = phase_losses(objective, "generators", batch, cache)
    difference = cache["fake_b"].double() - batch["target_image"].double()
    expected = (difference.abs() if distance == "l1" else difference.square()).mean().item()
    assert losses["paired"].item() == pytest.approx(expected, rel=1e-5)
    without = phase_losses(polarimetric(reconstruction_loss=distance), "generators", scenes())
    assert losses["loss"].item() == pytest.approx(without["loss"].item() + 4 * expected, rel=1e-5)
    assert "paired" not in without
    assert phase_losses(objective, "discriminators", batch, cache)["loss"].item() > 0


def test_the_layout():
    for weight, kind in ((0.0, "domains"), (0.1, "pair")):
        images = layout(PolarimetricArguments(paired_weight=weight))
        assert (images.kind, images.mirrored_channels) == (kind, (0, 3, 2, 1))


def test_all_four_networks_learn():
    objective, batch, cache = polarimetric(norm="batch"), scenes(count=6), {}
    for phase, trained in zip(objective.phases, (TRANSLATOR_NAMES, DISCRIMINATOR_NAMES), strict=True):
        assert phase.trains == trained
        for network in objective.networks.values():
            network.zero_grad(set_to_none=True)
        phase_losses(objective, phase.name, batch, cache)["loss"].backward()
        for name, network in objective.networks.items():
            for key, parameter in network.named_parameters():
                reached = parameter.grad is not None and parameter.grad.abs().sum() > 0
                assert reached == (name in trained), f"{phase.name}: {name}.{key}"


# options -------------------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_thesis():
    args = PolarimetricArguments()
    assert (args.calibration_weight, args.cone_weight, args.cycle_weight, args.paired_weight) == (1.0, 1.0, 10.0, 0.0)
    assert (args.left_inverse, args.calibration, args.reconstruction_loss) == ("authors", None, "l1")
    objective = polarimetric()
    assert objective.calibration.tolist() == A and objective.inverse.tolist() == B
    args.project_translations = False  # which None means for a new model
    for name, parameter in inspect.signature(PolarimetricObjective).parameters.items():
        assert parameter.default in (inspect.Parameter.empty, getattr(args, name, None)), name


def test_the_calibration_of_a_camera():
    objective = polarimetric(calibration=FLAT, left_inverse="orthogonal")
    np.testing.assert_allclose(objective.calibration.numpy(), TURNED, rtol=1e-6)
    np.testing.assert_allclose(objective.inverse.numpy(), np.linalg.pinv(TURNED), atol=1e-6)
    ideal = [number for row in A for number in row]
    assert polarimetric(calibration=ideal).inverse.tolist() == B


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration": FLAT[:11]}, "--calibration takes 12 numbers, row by row, got 11"),
        ({"calibration": [*FLAT, 1.0]}, "--calibration takes 12 numbers, row by row, got 13"),
        ({"calibration": FLAT}, 'the left inverse "authors" belongs to the ideal calibration matrix; choose "orth'),
        ({"calibration": [1.0] * 12, "left_inverse": "orthogonal"}, "the calibration matrix has no left inverse"),
        ({"calibration_weight": -1.0}, "--calibration_weight must be at least 0, got -1.0"),
        ({"cone_weight": -1.0}, "--cone_weight must be at least 0, got -1.0"),
        ({"paired_weight": -1.0}, "--paired_weight must be at least 0, got -1.0"),
    ],
)
def test_options_that_mean_nothing(options, message):
    with refused() as error:
        polarimetric(**options)
    assert str(error.value).startswith(message)


def test_domain_b_must_have_four_angles():
    data = dataclasses.replace(SCENES, other=dataclasses.replace(ANGLES, channels=3))
    with pytest.raises(UserError) as error:
        polarimetric(data)
    assert str(error.value).startswith("domain B of builtin:polarimetric has 3 channels instead of the 4 angles I0,")


# saved runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["output", "checkpoint"])
def test_from_saved_networks(place, tmp_path):
    first = polarimetric(calibration=FLAT, left_inverse="orthogonal")
    save_run(first, tmp_path, place)
    camera = {"calibration": FLAT, "left_inverse": "orthogonal"}
    given = PolarimetricArguments(**camera)
    again = reload(tmp_path, given, SCENES)
    assert isinstance(again, PolarimetricObjective)
    assert_same_networks(again, first)
    assert dataclasses.asdict(given) == dataclasses.asdict(
        PolarimetricArguments(**TINY, **camera, project_translations=False)
    )
    one, two = (phase_losses(objective, "generators", scenes())["loss"].item() for objective in (first, again))
    assert one == two


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ({"width": 3}, SCENES, "--width cannot be changed with --pretrained.*; the saved network has 2"),
        ({"calibration": FLAT}, SCENES, 'the left inverse "authors" belongs to the ideal calibration matrix'),
        ({}, dataclasses.replace(SCENES, channels=1), "translates 3 channels to 4, builtin:polarimetric has 1 and 4"),
    ],
)
def test_saved_networks_and_options_that_contradict_them(options, data, message, tmp_path):
    save_run(polarimetric(), tmp_path, "output")
    with refused(message):
        reload(tmp_path, PolarimetricArguments(**options), data)


# inference -----------------------------------------------------------------------------------------------------------


def test_the_pipeline_knows_the_camera():
    objective = polarimetric(calibration=FLAT, left_inverse="orthogonal")
    pipeline = objective.pipeline(objective.networks)
    np.testing.assert_allclose(pipeline.config.calibration, TURNED, rtol=1e-6)
    assert pipeline.config.left_inverse == "orthogonal"
    assert (pipeline.config.source_value_scale, pipeline.config.value_scale) == (255.0, 1.0)
    assert pipeline.generator_ba is objective.networks["generator_ba"]


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_pictures_and_held_out_figures(weight):
    objective = polarimetric(paired_weight=weight)
    batch = pairs(count=3) if weight else scenes(count=3)
    a, b = batch.values()
    for network in objective.networks.values():
        network.eval()
    with torch.no_grad():
        fake = objective.networks["generator_ab"](a).sample
        figures = objective.evaluate(objective.networks, batch, torch.Generator())
    assert set(figures) == {"cycle L1 of A", "cycle L1 of B", "C1", "C2 violated", *(["L1"] if weight else [])}
    for index, image in enumerate(fake.double().numpy()):
        y = (image.reshape(4, -1) + 1) / 2
        s = np.array(B) @ y
        other = np.array(A) @ s
        residual = np.linalg.norm(y - other) / (np.linalg.norm(y) + np.linalg.norm(other))
        assert figures["C1"][index].item() == pytest.approx(residual, rel=1e-5)
        assert figures["C2 violated"][index].item() == np.mean(np.hypot(s[1], s[2]) > s[0])
        if weight:
            expected = np.abs(image - b[index].double().numpy()).mean() / 2
            assert figures["L1"][index].item() == pytest.approx(expected, rel=1e-5)

    pictures = objective.sample_grid(objective.pipeline(objective.networks), batch, torch.Generator())
    assert list(pictures) == ["A, I0, polarisation, cycle"]
    (shown,) = pictures.values()
    assert shown.shape == (3, 3, 8, 32) and shown.min() >= 0 and shown.max() <= 1
    torch.testing.assert_close(shown[..., :8], (a + 1) / 2)
    torch.testing.assert_close(shown[..., 8:16], ((fake[:, :1] + 1) / 2).expand(-1, 3, -1, -1))


def test_c2_is_a_share_of_pixels():
    """One of four translated pixels has more polarised light than light."""
    objective = polarimetric()
    made = pixels((100, 100, 100, 100), (100, 255, 100, 0), (200, 100, 0, 100), (200, 50, 100, 30))
    networks = {name: lambda x: SimpleNamespace(sample=made) for name in TRANSLATOR_NAMES}
    batch = {"image_a": made, "image_b": made}
    assert objective.evaluate(networks, batch, torch.Generator())["C2 violated"].tolist() == [0.25]


def test_training_goes_on_with_the_saved_camera_unless_another_is_given(tmp_path):
    objective = polarimetric(calibration=FLAT, left_inverse="orthogonal")
    save_run(objective, tmp_path, "output")
    given = PolarimetricArguments()
    again = reload(tmp_path, given, SCENES)
    assert torch.equal(again.calibration, objective.calibration)
    assert again.left_inverse == given.left_inverse == "orthogonal"
    ideal = PolarimetricArguments(calibration=[number for row in A for number in row])
    again = reload(tmp_path, ideal, SCENES)
    assert again.calibration.tolist() == A and again.left_inverse == ideal.left_inverse == "authors"


def test_training_goes_on_with_the_camera_of_a_checkpoint(tmp_path):
    objective = polarimetric(calibration=FLAT, left_inverse="orthogonal")
    networks = tmp_path / "checkpoint-4" / "networks"
    for name, network in objective.networks.items():
        network.save_pretrained(str(networks / name))
    run = {"arguments": {"calibration": FLAT, "left_inverse": "orthogonal"}}
    (tmp_path / "training_args.json").write_text(json.dumps(run))
    given = PolarimetricArguments()
    again = reload(networks, given, SCENES)
    assert torch.equal(again.calibration, objective.calibration)
    assert again.left_inverse == given.left_inverse == "orthogonal"


@pytest.mark.parametrize("project", [True, False])
def test_training_goes_on_with_projected_translations(project, tmp_path):
    save_run(polarimetric(project_translations=project), tmp_path / "run", "output")
    given = PolarimetricArguments()
    again = reload(tmp_path / "run", given, SCENES)
    assert again.project_translations is given.project_translations is project
    (tmp_path / "training_args.json").write_text(json.dumps({"arguments": {"project_translations": project}}))
    networks = tmp_path / "checkpoint-4" / "networks"
    for name, network in again.networks.items():
        network.save_pretrained(str(networks / name))
    assert reload(networks, PolarimetricArguments(), SCENES).project_translations is project
    for asked in (True, False):
        given = PolarimetricArguments(project_translations=asked)
        assert reload(tmp_path / "run", given, SCENES).project_translations is asked


def test_the_authors_generator():
    objective = polarimetric(architecture="polarcycle")
    assert objective.networks["generator_ab"].config.layout == "polarcycle"


def test_a_pretrained_model_on_images_of_another_size(tmp_path):
    save_run(polarimetric(), tmp_path, "output")
    wider = dataclasses.replace(SCENES, size=(12, 12), other=dataclasses.replace(ANGLES, size=(12, 12)))
    again = reload(tmp_path, PolarimetricArguments(), wider)
    assert again.networks["generator_ab"].config.sample_size == 12
    odd = dataclasses.replace(SCENES, size=(10, 10), other=dataclasses.replace(ANGLES, size=(10, 10)))
    with refused(r"needs images whose sides are multiples of 4, .* has 10"):
        reload(tmp_path, PolarimetricArguments(), odd)


def test_a_calibration_that_is_not_finite():
    with refused("the calibration matrix holds numbers that are not finite"):
        polarimetric(calibration=[math.nan, *FLAT[1:]], left_inverse="orthogonal")
