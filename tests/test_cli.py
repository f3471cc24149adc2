from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels import FAMILIES, VAE, Pix2PixPipeline, UNetTranslator, VAEPipeline, __version__
from hf_genmodels.cli import main, missing_launch_options
from tests.testing_utils.fresh import run_python
from tests.testing_utils.pipelines import tiny_pipeline

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_python("-m", "hf_genmodels.cli", *arguments)


def saved_vae(folder: Path, channels: int = 1, size: int | None = 8) -> VAEPipeline:
    torch.manual_seed(0)
    vae = VAE(architecture="mlp", in_channels=channels, sample_size=size, hidden_dims=(8,), latent_dim=2).eval()
    pipeline = VAEPipeline(vae)
    pipeline.save_pretrained(folder)
    return pipeline


@pytest.mark.parametrize("module", ["hf_genmodels", "hf_genmodels.cli"])
def test_import_is_light(module: str) -> None:
    code = f"import {module}, sys; print(*{{'torch', 'diffusers', 'transformers', 'numpy', 'PIL'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["--version"], ["sample", "--help"], ["evaluate", "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert __version__ in printed
    assert all(command in printed for command in ("quickstart", "list", "train", "sample", "evaluate", "card"))


def test_list_names_every_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [[f.name, f.pipeline or "-"] for f in FAMILIES.values()]
    assert all(line.endswith(family.title) for line, family in zip(lines, FAMILIES.values(), strict=True))


def test_unknown_command_and_family(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["nonsense"])
    assert stop.value.code == 2
    capsys.readouterr()

    assert main(["train", "nonsense"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(name in error for name in ["nonsense", *FAMILIES])


def test_train_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    usage = capsys.readouterr().out
    assert all(name in usage for name in ["launcher options", *FAMILIES])
    assert main(["train"]) == 2


def test_train_help_is_the_scripts() -> None:
    done = run("train", "vae", "--help")
    assert done.returncode == 0, done.stderr
    assert "--dataset_name" in done.stdout and "--latent_dim" in done.stdout


def test_what_the_launcher_refuses_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "vae", "--output_dir", str(tmp_path / "out"), "--", "--multi_gpu", "--num_processes", "1"]
    assert main(words) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [said[0]]
    assert said[0].startswith("error: accelerate launch: You need to use at least 2 processes to use `--multi_gpu`")


def test_train_passes_on_a_failure_without_noise(tmp_path: Path) -> None:
    done = run("train", "vae", "--dataset_name", "builtin:nonsense", "--output_dir", str(tmp_path / "out"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert "nonsense" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("launcher", "added"),
    [
        ([], "--num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no"),
        (["--num_processes", "4"], "--num_machines 1 --mixed_precision no --dynamo_backend no"),
        (["--num-processes=4", "--mixed_precision=bf16"], "--num_machines 1 --dynamo_backend no"),
        (["--multi_gpu"], "--num_machines 1 --mixed_precision no --dynamo_backend no"),
        (["--config_file", "mine.yaml"], ""),
    ],
)
def test_launch_options_fill_only_what_is_missing(
    launcher: list[str], added: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert missing_launch_options(launcher) == added.split()


def test_launch_options_leave_a_configured_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert missing_launch_options([]) != []
    (tmp_path / "huggingface" / "accelerate").mkdir(parents=True)
    (tmp_path / "huggingface" / "accelerate" / "default_config.yaml").touch()
    assert missing_launch_options([]) == []


def test_sample_writes_pictures_that_depend_on_their_own_seed(tmp_path: Path) -> None:
    pipeline = saved_vae(tmp_path / "model")
    out = tmp_path / "out"
    arguments = ["--num_samples", "4", "--batch_size", "3", "--seed", "7", "--output_dir", str(out)]
    assert main(["sample", str(tmp_path / "model"), *arguments]) == 0
    assert sorted(path.name for path in out.iterdir()) == [*(f"0000{index}.png" for index in range(4)), "grid.png"]
    for index in (0, 2, 3):
        alone = pipeline(generator=torch.Generator().manual_seed(7 + index), output_type="pil").images[0]
        written = np.asarray(Image.open(out / f"0000{index}.png")).astype(int)
        np.testing.assert_allclose(written, np.asarray(alone).astype(int), atol=1)
    assert Image.open(out / "grid.png").size == (2 * 58 + 2, 2 * 58 + 2)


@pytest.mark.parametrize(
    ("channels", "size", "shape", "grid"),
    [(4, 8, (5, 8, 8, 4), True), (2, None, (5, 2), True), (3, None, (5, 3), False)],
)
def test_sample_writes_an_array_where_there_is_no_picture(
    channels: int, size: int | None, shape: tuple[int, ...], grid: bool, tmp_path: Path
) -> None:
    saved_vae(tmp_path / "model", channels, size)
    out = tmp_path / "out"
    assert main(["sample", str(tmp_path / "model"), "--num_samples", "5", "--output_dir", str(out)]) == 0
    assert np.load(out / "samples.npy", allow_pickle=False).shape == shape
    assert {path.name for path in out.iterdir()} == {"samples.npy"} | ({"grid.png"} if grid else set())


def test_sample_needs_something_to_sample_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hf_genmodels import Autoencoder, AutoencoderPipeline

    AutoencoderPipeline(Autoencoder(sample_size=4, architecture="linear")).save_pretrained(tmp_path / "model")
    assert main(["sample", str(tmp_path / "model"), "--output_dir", str(tmp_path / "out")]) == 1
    assert "AutoencoderPipeline has nothing to sample from" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_sample_passes_options_of_the_call_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hf_genmodels import DCGANGenerator, GANPipeline

    torch.manual_seed(0)
    generator = DCGANGenerator(2, 1, 8, width=2, conditioning="concat", num_classes=3)
    GANPipeline(generator).save_pretrained(tmp_path / "model")
    pipeline = GANPipeline.from_pretrained(tmp_path / "model")
    out = tmp_path / "out"
    arguments = ["--num_samples", "3", "--batch_size", "2", "--class_labels", "2", "0", "--truncation", "0.5"]
    assert main(["sample", str(tmp_path / "model"), *arguments, "--output_dir", str(out)]) == 0
    for index, label in enumerate([2, 0, 2]):
        seeded = torch.Generator().manual_seed(index)
        alone = pipeline(generator=seeded, class_labels=label, truncation=0.5, output_type="pil").images[0]
        written = np.asarray(Image.open(out / f"0000{index}.png")).astype(int)
        np.testing.assert_allclose(written, np.asarray(alone).astype(int), atol=1)
    capsys.readouterr()
    for command in (["sample"], ["evaluate", "--dataset_name", "builtin:digits", "--metrics", "parzen"]):
        words = [command[0], str(tmp_path / "model"), *command[1:], "--num_inference_steps", "5"]
        assert main([*words, "--output_dir", str(tmp_path / "other")]) == 1
        assert "--num_inference_steps: a GANPipeline has no such option" in capsys.readouterr().err


def test_evaluate_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved_vae(tmp_path / "model")
    arguments = [
        "--dataset_name",
        "builtin:digits",
        "--metrics",
        "mse",
        "swd",
        "--num_samples",
        "64",
        "--extractor",
        "pixels",
    ]
    assert main(["evaluate", str(tmp_path / "model"), *arguments]) == 0
    table = capsys.readouterr().out.lower()
    assert [line.split()[0] for line in table.splitlines()[:3]] == ["metric", "mse", "swd"]
    results = json.loads((tmp_path / "model" / "metrics.json").read_text())["evaluation"]
    assert all(result["settings"]["num_samples"] == 64 for result in results)
    mse = next(result["value"] for result in results if result["name"] == "MSE")
    assert 0 < mse < 1
    assert f"{mse:.4g}" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


def test_auroc_of_the_class_that_training_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved_vae(tmp_path / "model")
    arguments = ["evaluate", str(tmp_path / "model"), "--dataset_name", "builtin:digits", "--num_samples", "64"]
    assert main([*arguments, "--metrics", "auroc"]) == 1
    assert "auroc needs --exclude_label: the class that is the anomaly" in capsys.readouterr().err
    assert main([*arguments, "--metrics", "mse", "--exclude_label", "1"]) == 1
    assert "--exclude_label has no effect without --metrics auroc" in capsys.readouterr().err
    assert main([*arguments, "--metrics", "auroc", "--exclude_label", "3"]) == 0
    training = {"family": "vae", "arguments": {"exclude_label": "1"}}
    (tmp_path / "model" / "training_args.json").write_text(json.dumps(training))
    assert main([*arguments, "--metrics", "auroc"]) == 0
    results = json.loads((tmp_path / "model" / "metrics.json").read_text())["evaluation"]
    assert [(each["name"], each["settings"]["anomaly"]) for each in results] == [("AUROC", "3"), ("AUROC", "1")]
    assert results[0]["value"] != results[1]["value"]


def test_a_users_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved_vae(tmp_path / "model")
    (tmp_path / "file").touch()
    for arguments in (
        ["sample", str(tmp_path / "nothing")],
        ["sample", str(tmp_path / "model"), "--num_samples", "0"],
        ["sample", str(tmp_path / "model"), "--num_samples", "2", "--seed", str(2**64 - 1)],
        ["evaluate", str(tmp_path / "model"), "--metrics", "fid", "--seed", str(2**64)],
        ["sample", str(tmp_path / "model"), "--output_dir", str(tmp_path / "file")],
        ["card", str(tmp_path / "nothing")],
    ):
        assert main(arguments) == 1, arguments
        error = capsys.readouterr().err.splitlines()
        assert [line for line in error if line.startswith("error: ")] == error[-1:], arguments
        assert not any("Traceback" in line for line in error)


@pytest.mark.parametrize("place", ["", " ", "a\0b"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["card", "{}"],
        ["sample", "{}"],
        ["sample", "model", "--output_dir", "{}"],
        ["evaluate", "{}", "--dataset_name", "builtin:digits", "--metrics", "mse"],
        ["evaluate", "model", "--dataset_name", "builtin:digits", "--metrics", "fid", "--extractor", "{}"],
        ["apply", "model", "{}", "--output_dir", "out"],
        ["apply", "model", "images", "--output_dir", "{}"],
        ["convert", "pix2pix", "{}", "out"],
        ["quickstart", "--output_dir", "{}"],
    ],
    ids=" ".join,
)
def test_no_name_is_not_the_current_folder(
    arguments: list[str],
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([argument.replace("{}", place) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert error.endswith(f"{place!r} is no name of a file or folder\n") and error.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", "{", "metrics.json cannot be read as JSON"),
        ("metrics.json", '{"evaluation": 3}', "metrics.json: evaluation must be a list"),
        ("README.md", "---\nlicense: mit: x\n---\n", "README.md: the card's metadata cannot be read"),
    ],
)
def test_evaluate_looks_at_what_it_writes_to_first(
    name: str, content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(content)
    arguments = ["--dataset_name", "builtin:digits", "--metrics", "mse", "--output_dir", str(tmp_path / "out")]
    assert main(["evaluate", str(tmp_path / "no model"), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert (tmp_path / "out" / name).read_text() == content


@pytest.mark.parametrize("name", ["a\nb\r\nc", "\x1b[31mred", "a\u2028b\u202ec", "\udc80"], ids=ascii)
def test_odd_names_leave_an_error_on_its_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", str(tmp_path / name)]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ") and error.isprintable() and "model_index.json is missing" in error


def test_a_translator_is_evaluated_on_images_side_by_side(tmp_path: Path) -> None:
    torch.manual_seed(0)
    Pix2PixPipeline(UNetTranslator(1, 1, 8, width=2, num_downs=2).eval()).save_pretrained(tmp_path / "model")
    a, b = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 8), dtype=np.uint8)
    for name, pair in (("ab", (a, b)), ("ba", (b, a))):
        (tmp_path / name / "val").mkdir(parents=True)
        for i, image in enumerate(np.concatenate(pair, 2)):
            Image.fromarray(image).save(tmp_path / name / "val" / f"{i}.png")

    def error(name: str, *options: str) -> tuple[float, str | None]:
        folder = tmp_path / "-".join([name, *options])
        words = [
            "--train_data_dir",
            str(tmp_path / name),
            "--side_by_side",
            "--split",
            "validation",
            "--metrics",
            "mse",
        ]
        assert main(["evaluate", str(tmp_path / "model"), *words, *options, "--output_dir", str(folder)]) == 0
        (result,) = json.loads((folder / "metrics.json").read_text())["evaluation"]
        return result["value"], result["settings"].get("direction")

    swapped, told = error("ab", "--direction", "b_to_a")
    assert told == "b_to_a" and swapped == error("ba")[0] != error("ab")[0]


def test_chains_of_few_steps_and_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_pipeline("ConditionalDDPMPipeline").save_pretrained(tmp_path / "model")
    words = ["sample", str(tmp_path / "model"), "--num_samples", "3", "--chains", "--overwrite"]
    words += ["--output_dir", str(tmp_path / "out"), "--num_inference_steps"]
    for options in (["1"], ["2", "--class_labels", "1"], ["2", "--class_labels", "0", "1"]):
        assert main([*words, *options]) == 0
        assert Image.open(tmp_path / "out" / "chains.png").width > 100
    capsys.readouterr()
    assert main([*words, "2", "--class_labels", "0", "99"]) == 1
    assert capsys.readouterr().err.strip().endswith("got 0 99")
