"""Model cards, from hand-made model folders; `test_hub_pipelines.py` has those of trained models."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from hf_genmodels.cards import KEEP_MARKER, USUAL_COLUMNS, make_card, training_arguments, write_card
from hf_genmodels.data import DataArguments
from hf_genmodels.families import FAMILIES
from tests.testing_utils.model_folders import (
    COMMAND,
    METRICS,
    SECRET,
    TRAINING,
    write_json,
    write_model,
    write_trained_model,
)
from tests.testing_utils.refusals import refused


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    return write_trained_model(tmp_path / "runs" / "digits")


def sections(card: ModelCard) -> list[str]:
    return re.findall(r"^## (.+)$", card.text, re.MULTILINE)


def test_card_metadata_round_trip(trained: Path) -> None:
    card = ModelCard(str(make_card(trained, repo_id="tester/digits", license="apache-2.0")))
    data = card.data.to_dict()
    assert data["library_name"] == "hf_genmodels"
    assert data["pipeline_tag"] == "unconditional-image-generation"
    assert data["tags"] == ["hf_genmodels", "vae"]
    assert data["license"] == "apache-2.0"
    assert data["datasets"] == ["user/digits"]
    assert data["model-index"][0]["name"] == "digits"
    loss, fid = card.data.eval_results
    assert (loss.metric_type, loss.metric_value, loss.dataset_split) == ("loss", 31.125, None)
    assert (fid.metric_type, fid.metric_name, fid.metric_value) == ("fid", "FID", 12.5)
    assert (fid.dataset_type, fid.dataset_split) == ("user/digits", "test")
    settings = {"extractor": "digits-classifier", "weights_sha256": "ab" * 32, "num_samples": 5000, "seed": 3}
    assert fid.metric_args == settings


def test_card_tells_what_the_folder_holds(trained: Path) -> None:
    card = make_card(trained, repo_id="tester/digits", license="apache-2.0")
    assert sections(card) == ["Use", "Pictures", "Training", "Data", "Measured", "Limits", "Papers", "Licence"]
    assert 'VAEPipeline.from_pretrained("tester/digits")' in card.text
    assert f"```bash\n{COMMAND}\n```" in card.text
    assert "500 steps in 12.3 s (torch: 2.13.0, device: cpu, threads: 2)." in card.text
    assert "(samples/step-500.png)" in card.text and "step-5.png" not in card.text
    assert "(losses.png)" in card.text
    assert "[user/digits](https://huggingface.co/datasets/user/digits) (train split: train)" in card.text
    assert "| loss | 30.25 | 31.125 |" in card.text and "| kl |  | nan |" in card.text
    row = (
        "extractor: digits-classifier, weights sha256: abababababab, num samples: 5000, seed: 3, dataset: user/digits"
    )
    assert f"| FID | 12.5 | {row}, split: test |" in card.text
    assert "| `vae` | latent dim: 2 |" in card.text
    assert "β = 4.0" in card.text and "Higgins" in card.text and "free bits" not in card.text


@pytest.mark.parametrize("warnings", [None, ["the first | 0.1", "the second"]], ids=str)
def test_warnings_are_among_the_limits(trained: Path, warnings: list[str] | None) -> None:
    write_json(trained / "metrics.json", METRICS | ({} if warnings is None else {"warnings": warnings}))
    limits = make_card(trained).text.partition("## Limits")[2].partition("## Papers")[0]
    assert re.findall(r"^Training gave a warning: (.+)\.$", limits, re.MULTILINE) == (warnings or [])


@pytest.mark.parametrize("family", FAMILIES)
def test_card_leaves_out_what_is_not_known(family: str, tmp_path: Path) -> None:
    card = make_card(write_model(tmp_path / "model", family))
    assert sections(card) == ["Use", "Limits", "Papers"]
    assert f'from_pretrained("{(tmp_path / "model").as_posix()}")' in card.text
    assert card.data.to_dict() == {
        "library_name": "hf_genmodels",
        "model_name": "model",
        "pipeline_tag": FAMILIES[family].pipeline_tag,
        "tags": ["hf_genmodels", family],
    }
    assert not re.search(r"\bNone\b|\bnan\b|\{\{|\{%|\n\n\n", str(card))
    ast.parse(re.search(r"```python\n(.+?)```", card.text, re.DOTALL)[1])  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "cited"),
    [
        ({}, set()),
        ({"corruption": "masking", "corruption_level": 0.3}, {"Vincent, H."}),
        ({"regularizer": "contractive", "regularizer_weight": 0.1}, {"Rifai"}),
        ({"regularizer": "l1", "regularizer_weight": 0.1, "k_sparse": 5}, {"Makhzani"}),
    ],
)
def test_card_cites_the_variant_that_was_trained(options: dict[str, Any], cited: set[str], tmp_path: Path) -> None:
    folder = write_model(tmp_path, "autoencoder")
    write_json(folder / "training_args.json", {"family": "autoencoder", "arguments": options})
    text = make_card(folder).text
    assert {name for name in ("Vincent, H.", "Rifai", "Makhzani") if name in text} == cited
    assert "Hinton" in text


@pytest.mark.parametrize(
    ("options", "cited"),
    [
        ({}, set()),
        ({"architecture": "dcgan", "packing": 1, "conditioning": "none"}, {"Radford"}),
        (
            {"architecture": "avae", "gan_loss": "hinge", "gradient_penalty": "r1"},
            {"Plumerault", "J. H. Lim", "Mescheder"},
        ),
        ({"architecture": "sngan", "conditioning": "projection"}, {"Kataoka", "cGANs with Projection"}),
        ({"gan_loss": "wasserstein", "gradient_penalty": "wgan_gp"}, {"Arjovsky", "Gulrajani"}),
        ({"gan_loss": "least_squares", "gradient_penalty": "zero_centred"}, {"X. Mao", "Thanh-Tung"}),
        ({"gradient_penalty": "roth", "conditioning": "cgan", "packing": 2}, {"Roth", "Mirza", "PacGAN"}),
        ({"discriminator_norm": "spectral", "conditioning": "acgan"}, {"Kataoka", "Odena"}),
        ({"label_smoothing": 0.1, "gan_loss": "minimax"}, {"Salimans"}),
        ({"gan_loss": "f_kl", "instance_noise": 0.5, "instance_noise_steps": 9}, {"f-GAN", "Amortised"}),
        ({"consensus_weight": 0.0, "generator_loss": "feature_matching"}, {"The Numerics", "Mescheder", "Salimans"}),
    ],
)
def test_card_cites_the_gan_that_was_trained(options: dict[str, Any], cited: set[str], tmp_path: Path) -> None:
    variants = {
        "Radford",
        "Plumerault",
        "J. H. Lim",
        "Mescheder",
        "Kataoka",
        "cGANs with Projection",
        "Arjovsky",
        "Odena",
    }
    variants |= {"Gulrajani", "X. Mao", "Thanh-Tung", "Roth", "Mirza", "PacGAN"}
    variants |= {"Salimans", "f-GAN", "Amortised", "The Numerics", "Moment Matching"}
    folder = write_model(tmp_path, "gan")
    write_json(folder / "training_args.json", {"family": "gan", "arguments": options})
    text = make_card(folder).text
    assert {name for name in variants if name in text} == cited
    assert "Goodfellow" in text


def test_card_of_moment_matching_tells_of_no_discriminator(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "gan")
    write_json(folder / "training_args.json", {"family": "gan", "arguments": {"generator_loss": "mmd"}})
    text = make_card(folder).text
    assert "There was no discriminator" in text and "Moment Matching" in text and "Goodfellow" not in text


def test_card_of_a_conditional_gan_names_a_class(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "gan")
    write_json(folder / "model_index.json", {"_class_name": "GANPipeline", "generator": ["hf_genmodels", "G"]})
    for num_classes, told in ((None, False), (10, True)):
        write_json(folder / "generator" / "config.json", {"_class_name": "G", "num_classes": num_classes})
        assert ("class_labels=0" in make_card(folder).text) is told


@pytest.mark.parametrize("xi_dim", [0, 3])
def test_card_of_an_avae_speaks_of_xi_only_where_there_is_one(xi_dim: int, tmp_path: Path) -> None:
    folder = write_model(tmp_path, "avae")
    index = {"_class_name": "AVAEPipeline", "decoder": ["hf_genmodels", "G"], "generator": ["hf_genmodels", "G"]}
    write_json(folder / "model_index.json", index)
    for name, latent_dim in (("decoder", 2), ("generator", 2 + xi_dim)):
        write_json(folder / name / "config.json", {"_class_name": "G", "latent_dim": latent_dim})
    text = make_card(folder).text
    for said in ("G(z, ξ)", "random ξ", "other ξ", "What ξ decides"):
        assert (said in text) is (xi_dim > 0)
    assert ("num_samples=4, sample=True" in text) is (xi_dim == 0)


@pytest.mark.parametrize("config", [{}, {"likelihood": "gaussian"}], ids=str)
def test_card_of_an_avae_asks_the_decoder_whose_it_is(config: dict[str, str], tmp_path: Path) -> None:
    """Further training does not name the VAE that encoder and decoder are of."""
    folder = write_model(tmp_path, "avae")
    write_json(folder / "model_index.json", {"_class_name": "AVAEPipeline", "decoder": ["hf_genmodels", "G"]})
    write_json(folder / "decoder" / "config.json", {"_class_name": "G", "latent_dim": 2, **config})
    write_json(folder / "training_args.json", {"family": "avae", "arguments": {"vae_model_name_or_path": None}})
    assert ("those of a VAE that was trained before" in make_card(folder).text) is bool(config)


@pytest.mark.parametrize(("statistics", "told"), [("batch", True), ("running", False), (None, False)])
def test_card_of_a_network_that_normalises_by_the_batch(statistics: str | None, told: bool, tmp_path: Path) -> None:
    folder = write_model(tmp_path, "gan")
    write_json(folder / "model_index.json", {"_class_name": "GANPipeline", "generator": ["hf_genmodels", "G"]})
    write_json(folder / "generator" / "config.json", {"_class_name": "G", "norm_statistics": statistics})
    assert ("normalise each sample by the batch" in make_card(folder).text) is told


@pytest.mark.parametrize(
    ("options", "told", "datasets"),
    [
        ({"dataset_name": "builtin:digits"}, "`builtin:digits`, which comes with hf_genmodels", None),
        ({"dataset_name": "mnist"}, "[mnist](https://huggingface.co/datasets/mnist)", ["mnist"]),
        ({"train_data_dir": "somewhere/private/faces"}, "`faces`, local files", None),
        ({"dataset_name": "/somewhere/private/faces.parquet"}, "`faces.parquet`, local files", None),
    ],
)
def test_card_names_the_data(options: dict[str, str], told: str, datasets: list[str] | None, tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    write_json(folder / "training_args.json", {"arguments": options})
    card = make_card(folder)
    assert f"## Data\n\n{told}.\n" in card.text
    assert card.data.datasets == datasets
    assert "private" not in str(card)


@pytest.mark.parametrize(
    ("options", "told", "about", "datasets"),
    [
        (
            {"train_data_dir": "private/horses", "train_data_dir_b": "private/zebras", "train_split": "train"},
            "Domain A: `horses`, local files; domain B: `zebras`, local files (train split: train).",
            "Domain A is `horses`, local files; domain B is `zebras`, local files.",
            None,
        ),
        (
            {"dataset_name": "user/horses", "dataset_name_b": "user/zebras"},
            "Domain A: [user/horses](https://huggingface.co/datasets/user/horses); domain B: "
            "[user/zebras](https://huggingface.co/datasets/user/zebras).",
            "domain B is [user/zebras](https://huggingface.co/datasets/user/zebras).",
            ["user/horses", "user/zebras"],
        ),
        (
            {"dataset_name": "builtin:edges", **USUAL_COLUMNS, "image_columns": None},
            "`builtin:edges`, which comes with hf_genmodels.",
            "",
            None,
        ),
        (
            {"dataset_name": "a/b", "conditioning_image_column": "rgb", "image_columns": ["i0", "i45"]},
            "[a/b](https://huggingface.co/datasets/a/b) (conditioning image column: rgb, image columns: i0 i45).",
            "Domain A is the column `rgb` of the data, domain B `i0 i45`.",
            ["a/b"],
        ),
    ],
)
@pytest.mark.parametrize("family", ["cyclegan", "polarimetric"])
def test_card_names_both_domains(
    options: dict[str, Any], told: str, about: str, datasets: list[str] | None, family: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path, family)
    write_json(folder / "training_args.json", {"family": family, "arguments": options})
    card = make_card(folder)
    assert f"## Data\n\n{told}\n" in card.text
    assert card.data.datasets == datasets and "private" not in str(card)
    if family == "cyclegan":
        text = " ".join(card.text.partition("## Use")[0].split())
        assert about in text and bool(about) is ("Domain A" in text)


def test_card_of_label_maps_shows_the_classes_with_their_colours(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "pix2pix")
    index = {"id2label": {"0": "back_ground", "1": "sea"}, "label_colors": [[0, 0, 0], [255, 16, 0]]}
    write_json(folder / "model_index.json", {"_class_name": "LabelMapPipeline", **index})
    told = "Its classes, by number: 0 `back_ground` `#000000`, 1 `sea` `#ff1000`."
    assert told in make_card(folder).text.splitlines()


@pytest.mark.parametrize(("head", "told"), [("tanh", False), ("cone", True)])
def test_card_tells_the_intensity_source_of_cones_alone(head: str, told: bool, tmp_path: Path) -> None:
    folder = write_model(tmp_path, "polarimetric")
    config = {"_class_name": "Network", "output_head": head, "intensity_source": "learned"}
    write_json(folder / "polarimetric" / "config.json", config)
    text = make_card(folder).text
    assert ("intensity source: learned" in text) is told and f"output head: {head}" in text


@pytest.mark.parametrize(
    "options", [{}, {"output_head": "cone"}, {"calibration_weight": 0, "cone_weight": 0}], ids=str
)
def test_limits_of_a_polarimetric_card_are_sentences(options: dict[str, Any], tmp_path: Path) -> None:
    folder = write_model(tmp_path, "polarimetric")
    write_json(folder / "training_args.json", {"family": "polarimetric", "arguments": options})
    assert ". It assumes an ideal camera.\n" in make_card(folder).text


def test_usual_columns_are_the_defaults() -> None:
    assert {name: getattr(DataArguments(), name) for name in USUAL_COLUMNS} == USUAL_COLUMNS


@pytest.mark.parametrize(
    ("weight", "told"),
    [(None, "plus that of"), (1.0, "plus that of"), (0.25, "plus 0.25 times that of"), (0, "alone")],
)
def test_card_of_pix2pix_tells_the_adversarial_weight(weight: float | None, told: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path, "pix2pix")
    arguments = {} if weight is None else {"adversarial_weight": weight}
    write_json(folder / "training_args.json", {"family": "pix2pix", "arguments": arguments})
    about = " ".join(make_card(folder).text.partition("## Use")[0].split())
    assert told in about and ("times that of" in about) is ("times that" in told)


def test_a_figure_of_training_gives_way_to_the_evaluations(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "pixelwise")
    evaluation = [{"name": "constraint MSE", "value": 0.5, "settings": {"known_pixels": 0.1}}]
    write_json(folder / "metrics.json", {"validation": {"constraint_mse": 0.25}, "evaluation": evaluation})
    (result,) = make_card(folder).data.eval_results
    assert (result.metric_type, result.metric_value) == ("constraint_mse", 0.5)


def test_card_of_a_folder_beside_a_data_folder_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my" / "faces").mkdir(parents=True)
    write_json(write_model(tmp_path / "model") / "training_args.json", {"arguments": {"dataset_name": "my/faces"}})
    card = make_card("model")
    assert "`faces`, local files" in card.text and card.data.datasets is None
    assert 'from_pretrained("model")' in card.text


@pytest.mark.parametrize("option", [f"--hub_token {SECRET}", f"--hub_token={SECRET}", f"--hub-token {SECRET}"])
def test_card_does_not_tell_the_token(option: str, trained: Path) -> None:
    write_json(trained / "training_args.json", TRAINING | {"command": f"python train.py {option} --seed 1"})
    card = make_card(trained)
    assert "python train.py --seed 1\n" in card.text
    assert SECRET not in str(card)


def test_card_does_not_tell_where_things_lay(trained: Path) -> None:
    path = trained / "training_args.json"
    training = json.loads(path.read_text())
    training["arguments"] |= {"train_data_dir": "/home/somebody/faces", "output_dir": "runs/faces"}
    training["command"] = "accelerate launch training/train_vae.py --train_data_dir /home/somebody/faces"
    path.write_text(json.dumps(training))
    shown = training_arguments(trained)
    assert shown["arguments"]["train_data_dir"] == "./faces" and shown["arguments"]["output_dir"] == "runs/faces"
    assert shown["command"].endswith("--train_data_dir ./faces")
    assert "somebody" not in str(make_card(trained))


def test_written_card_keeps_licence_and_additions(trained: Path) -> None:
    path = write_card(trained, license="mit")
    assert path == trained / "README.md"
    first = path.read_text()
    path.write_text(first + "\nMy own words.\n")
    write_json(trained / "metrics.json", METRICS | {"validation": {"loss": 7.5}})
    card = ModelCard.load(write_card(trained))
    assert card.data.license == "mit"
    assert card.data.eval_results[0].metric_value == 7.5
    assert card.text.endswith(f"{KEEP_MARKER}\n\nMy own words.\n")
    (again := ModelCard.load(write_card(trained))).data.to_dict()
    assert str(again) == str(card)


def test_a_readme_of_the_users_own_is_left_alone(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    (trained / "README.md").write_text("# Mine\n")
    write_card(trained)
    assert (trained / "README.md").read_text() == "# Mine\n"
    assert "left as it is" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "model_index.json",
            '{"_class_name": "StableDiffusionPipeline"}',
            "names StableDiffusionPipeline, which is no",
        ),
        ("model_index.json", None, "model_index.json is missing"),
        ("metrics.json", "{", "metrics.json cannot be read as JSON"),
    ],
)
def test_card_of_a_bad_folder(name: str, content: str | None, message: str, trained: Path) -> None:
    (trained / name).unlink()
    if content is not None:
        (trained / name).write_text(content)
    with refused(message):
        make_card(trained)


def test_card_rounds_what_the_best_networks_were_chosen_by(trained: Path) -> None:
    for name, change in (
        ("metrics.json", {"best": {"step": 2, "by": {"mse": 0.0123456789, "nll": 123.0}, "evaluations": 3}}),
        ("training_args.json", {}),
    ):
        known = json.loads((trained / name).read_text()) | change
        if name == "training_args.json":
            known["arguments"]["validation_size"] = 200.0
        (trained / name).write_text(json.dumps(known))
    text = str(make_card(trained))
    assert "by mse: 0.01235, nll: 123." in text
    assert "200" in text and "200.0" not in text
