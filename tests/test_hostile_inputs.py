"""Hostile and odd inputs from everywhere: one line says what is wrong, nothing is lost, nothing is executed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from hf_genmodels import AutoPipeline
from hf_genmodels.cli import main
from hf_genmodels.data import DataArguments, load_data
from hf_genmodels.training.train_vae import main as train_vae
from tests.testing_utils.hostile import (
    DEEP,
    Change,
    canary_of,
    changed_json,
    cut,
    numpy_pickled,
    one_line_and_nothing_lost,
    pickled,
    replaced_by_code,
    snapshot,
    torch_saved,
    with_values,
    written,
)
from tests.testing_utils.pipelines import tiny_pipeline
from tests.testing_utils.training import options

ADDRESS = "http://127.0.0.1:9/model"
CODE = {"pickle": pickled, "torch": torch_saved, "numpy": numpy_pickled}
LONG = "n" * 300
# Values of a type that no field expects.
ODD: dict[str, Any] = {
    "text": "many",
    "null": None,
    "negative": -1,
    "zero": 0,
    "fraction": 1.5,
    "huge": 10**30,
    "list": [[]],
    "object": {"a": {}},
    "true": True,
}


def apply_all(*changes: Change) -> Change:
    def apply(folder: Path) -> None:
        for change in changes:
            change(folder)

    return apply


def unlinked(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def removed(name: str) -> Change:
    return lambda folder: shutil.rmtree(folder / name)


def linked_to_itself(name: str) -> Change:
    def apply(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(folder / name)

    return apply


# Folders of models ---------------------------------------------------------------------------------------------------

INDEX, CONFIG, WEIGHTS = "model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"
SHARDS = f"{WEIGHTS}.index.json"


def sharded(weight_map: Any) -> Change:
    """Weights whose index says where each tensor lies."""
    return apply_all(unlinked(WEIGHTS), written(SHARDS, json.dumps({"metadata": {}, "weight_map": weight_map})))


def other_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    def apply(folder: Path) -> None:
        from safetensors.torch import load_file

        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return apply


def first_reshaped(tensors: dict[str, torch.Tensor]) -> None:
    name = sorted(tensors)[0]
    tensors[name] = torch.zeros(1, 2, 3)


MODELS: dict[str, Change] = {
    **{f"{name.replace('/', ' ')} empty": written(name, "") for name in (INDEX, CONFIG, WEIGHTS)},
    **{f"{name.replace('/', ' ')} missing": unlinked(name) for name in (INDEX, CONFIG, WEIGHTS)},
    **{f"{name.replace('/', ' ')} is a loop": linked_to_itself(name) for name in (INDEX, CONFIG, WEIGHTS)},
    **{f"{name.replace('/', ' ')} no utf-8": written(name, b"\xff\xfe{") for name in (INDEX, CONFIG)},
    **{f"{name.replace('/', ' ')} deep": written(name, DEEP) for name in (INDEX, CONFIG)},
    **{f"{name.replace('/', ' ')} a list": written(name, "[1, 2]") for name in (INDEX, CONFIG)},
    **{f"{name.replace('/', ' ')} a number": written(name, "1e999") for name in (INDEX, CONFIG)},
    **{f"{name.replace('/', ' ')} cut": cut(name, 5) for name in (INDEX, CONFIG, WEIGHTS)},
    **{f"weights are {kind}": replaced_by_code(WEIGHTS, code) for kind, code in CODE.items()},
    **{
        f"only {name} as {kind}": apply_all(unlinked(WEIGHTS), replaced_by_code(f"vae/{name}", code))
        for kind, code in CODE.items()
        for name in ("diffusion_pytorch_model.bin", "pytorch_model.bin", "model.pkl")
    },
    **{
        f"shards in {kind}": apply_all(sharded({"w": "w.bin"}), replaced_by_code("vae/w.bin", code))
        for kind, code in CODE.items()
    },
    "shards elsewhere": sharded({"w": "../../w.safetensors"}),
    "shards at an absolute place": sharded({"w": "/etc/passwd"}),
    "shards missing": sharded({"w": "w.safetensors"}),
    "shards of numbers": sharded({"w": 7}),
    "shards a list": sharded(["w.safetensors"]),
    "shards null": sharded(None),
    "shards of long names": sharded({"w": f"{LONG}.safetensors"}),
    "shards deep": apply_all(unlinked(WEIGHTS), written(SHARDS, DEEP)),
    "no component": removed("vae"),
    "a component is a file": apply_all(removed("vae"), written("vae", "")),
    "weights of others": other_tensors(lambda tensors: tensors.update(more=torch.zeros(1))),
    "weights lack one": other_tensors(lambda tensors: tensors.pop(sorted(tensors)[0])),
    "weights of other shapes": other_tensors(first_reshaped),
    "no weights": other_tensors(lambda tensors: tensors.clear()),
    "weights header of a terabyte": written(WEIGHTS, b"\xff\xff\xff\xff\xff\x00\x00\x00{}"),
    **{
        f"class {name!r}": with_values(INDEX, _class_name=name)
        for name in ("VAEPipelin", "os.system", "../VAEPipeline", "", None, 7, ["VAEPipeline"], {}, "GANPipeline")
    },
    **{
        f"component {entry!r}": with_values(INDEX, vae=entry)
        for entry in (
            ["os", "system"],
            ["builtins", "eval"],
            ["subprocess", "Popen"],
            ["hf_genmodels", "AutoPipeline"],
            ["hf_genmodels.cli", "main"],
            ["hf_genmodels", "Generator"],
            ["transformers", "AutoModel"],
            ["diffusers", "UNet2DModel"],
            ["torch.nn", "Linear"],
            ["../vae", "VAE"],
            ["hf_genmodels", None],
            [None, None],
            ["hf_genmodels"],
            ["hf_genmodels", "VAE", "more"],
            "VAE",
            7,
            {"class": "VAE"},
        )
    },
    **{f"network is {name!r}": with_values(CONFIG, _class_name=name) for name in ("os.system", "Generator", 7, [])},
    **{f"latent_dim {kind}": with_values(CONFIG, latent_dim=value) for kind, value in ODD.items() if kind != "true"},
    **{f"block_out_channels {kind}": with_values(CONFIG, block_out_channels=value) for kind, value in ODD.items()},
    **{f"sample_size {kind}": with_values(CONFIG, sample_size=value) for kind, value in ODD.items() if kind != "null"},
    **{
        f"value_scale {kind}": with_values(INDEX, value_scale=value)
        for kind, value in ODD.items()
        if kind not in ("fraction", "huge", "true")
    },
    "architecture unknown": with_values(CONFIG, architecture="transformer"),
    "likelihood unknown": with_values(CONFIG, likelihood="poisson"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "vae"
    tiny_pipeline("VAEPipeline").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_models(model: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    MODELS[name](folder)
    with one_line_and_nothing_lost(tmp_path, str(folder)):
        AutoPipeline.from_pretrained(folder)
    assert not canary_of(folder).exists() and not canary_of(folder / "vae").exists()


SCHEDULER, UNET = "scheduler/scheduler_config.json", "unet/config.json"
DENOISERS: dict[str, Change] = {
    "no scheduler": removed("scheduler"),
    "scheduler deep": written(SCHEDULER, DEEP),
    "scheduler a list": written(SCHEDULER, "[]"),
    **{
        f"{field} {kind}": with_values(SCHEDULER, **{field: ODD[kind]})
        for field, kinds in {
            "num_train_timesteps": ("text", "null", "negative", "zero", "huge", "fraction", "list", "object"),
            "beta_start": ("text", "null", "list", "object"),
            "beta_schedule": ("text", "null", "zero", "list"),
            "prediction_type": ("text", "null", "zero", "list"),
            "trained_betas": ("text", "zero", "object", "list"),
        }.items()
        for kind in kinds
    },
    **{
        f"{field} {kind}": with_values(UNET, **{field: ODD[kind]})
        for field, kinds in {
            "block_out_channels": ("text", "null", "zero", "object"),
            "down_block_types": ("text", "null", "zero", "list"),
            "norm_num_groups": ("text", "zero", "list"),
            "sample_size": ("text", "negative", "zero", "fraction", "object"),
        }.items()
        for kind in kinds
    },
}


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("denoiser") / "ddpm"
    tiny_pipeline("DDPMPipeline").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", DENOISERS)
def test_denoisers(denoiser: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(denoiser, tmp_path / "model"))
    DENOISERS[name](folder)
    with one_line_and_nothing_lost(tmp_path, "sample_size" if "sample_size" in name else str(folder)):
        AutoPipeline.from_pretrained(folder)(batch_size=1, num_inference_steps=1)


# Folders of images ---------------------------------------------------------------------------------------------------


def picture(name: str, mode: str = "L", size: tuple[int, int] = (8, 8)) -> Change:
    def apply(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size).save(folder / name)

    return apply


def array(name: str, values: Any, dtype: Any = np.float32) -> Change:
    def apply(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / name, np.asarray(values, dtype=dtype))

    return apply


def cut_picture(name: str, count: int) -> Change:
    return apply_all(picture(name, size=(64, 64)), cut(name, count))


def pages(name: str) -> Change:
    def apply(folder: Path) -> None:
        Image.new("L", (8, 8)).save(folder / name, save_all=True, append_images=[Image.new("L", (8, 8), 9)])

    return apply


def metadata(*lines: Any) -> Change:
    return written("metadata.jsonl", "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))


NPY = b"\x93NUMPY\x01\x00"
TERABYTE = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000)}".ljust(117) + b"\n"
PICTURES: dict[str, tuple[Change, str]] = {
    "empty folder": (lambda folder: None, ""),
    "only text": (written("a.txt", "no image"), ""),
    "text called png": (written("x.png", "no image"), "x.png"),
    "empty png": (written("x.png", ""), "x.png"),
    "cut png": (cut_picture("x.png", 40), "x.png"),
    "cut jpeg": (cut_picture("x.jpg", 40), "x.jpg"),
    "html called jpg": (written("x.jpg", "<html><script>alert(1)</script>"), "x.jpg"),
    "pickle called png": (replaced_by_code("x.png", pickled), "x.png"),
    "postscript called png": (written("x.png", "%!PS-Adobe-3.0 EPSF-3.0\n(canary) (w) file closefile"), "x.png"),
    "svg called png": (written("x.png", '<svg xmlns="http://www.w3.org/2000/svg"/>'), "x.png"),
    "pickled npy": (replaced_by_code("x.npy", numpy_pickled), "x.npy"),
    "empty npy": (written("x.npy", ""), "x.npy"),
    "cut npy": (apply_all(array("x.npy", np.zeros((8, 8))), cut("x.npy", 9)), "x.npy"),
    "npy header of code": (written("x.npy", NPY + b"\x20\x00__import__('os').system('touch canary')"), "x.npy"),
    "npy header of noise": (written("x.npy", NPY + b"\xff\xff\x00\x01"), "x.npy"),
    "npy of a terabyte": (written("x.npy", NPY + b"\x76\x00" + TERABYTE), "x.npy"),
    "npy of text": (array("x.npy", [["a"]], str), "x.npy"),
    "npy of complex numbers": (array("x.npy", np.ones((8, 8)), np.complex64), "x.npy"),
    "npy of NaN": (array("x.npy", np.full((8, 8), np.nan)), "x.npy"),
    "npy beyond 1": (array("x.npy", np.full((8, 8), 2.0)), "x.npy"),
    "npy of dates": (array("x.npy", np.zeros((8, 8)), "datetime64[s]"), "x.npy"),
    "npy without rows": (array("x.npy", np.zeros((0, 8))), "x.npy"),
    "npy of one number": (array("x.npy", 1.0), "x.npy"),
    "npy of four dimensions": (array("x.npy", np.zeros((2, 2, 2, 2))), "x.npy"),
    "an alpha channel": (picture("x.png", "RGBA"), "x.png"),
    "another mode": (picture("x.png", "RGB"), ".png"),
    "another size": (picture("x.png", size=(9, 9)), "--resolution"),
    "two pages": (pages("x.tiff"), "x.tiff"),
    "a moving picture": (pages("x.gif"), "x.gif"),
    "a dangling link": (lambda folder: (folder / "x.png").symlink_to(folder / "nowhere.png"), "x.png"),
    "a link to itself": (lambda folder: (folder / "x.png").symlink_to(folder / "x.png"), "x.png"),
    "a folder that is a loop": (lambda folder: (folder / "x").symlink_to(folder), "x"),
    "a pipe": (lambda folder: os.mkfifo(folder / "x.png"), "x.png"),
    "an undecodable format": (written("x.heic", b"\0\0\0\x18ftypheic"), "x.heic"),
    "splits and loose files": (picture("train/x.png"), "train"),
    "metadata that is no JSON": (metadata("{'file_name': 'a.png'}"), "metadata.jsonl"),
    "metadata deep": (metadata(DEEP), "metadata.jsonl"),
    "metadata of lists": (metadata([]), "metadata.jsonl"),
    "metadata empty": (metadata(""), "metadata.jsonl"),
    "metadata names nothing": (metadata({"label": 1}), "metadata.jsonl"),
    "metadata names what is not there": (metadata({"file_name": "nowhere.png"}), "nowhere.png"),
    "metadata names what lies above": (metadata({"file_name": "../secret.png"}), "metadata.jsonl"),
    "metadata names an absolute path": (metadata({"file_name": "/etc/passwd"}), "metadata.jsonl"),
    "metadata names an address": (metadata({"file_name": "http://127.0.0.1:9/a.png"}), "metadata.jsonl"),
    "metadata names a number": (metadata({"file_name": 7}), "metadata.jsonl"),
    "metadata names a long name": (metadata({"file_name": f"{LONG}.png"}), "metadata.jsonl"),
}
ALONE = ("empty folder", "only text")


@pytest.mark.parametrize("name", PICTURES)
def test_folders_of_images(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture("../secret.png")(folder)
    if name not in ALONE:
        for number in range(3):
            picture(f"a{number}.png")(folder)
    change, words = PICTURES[name]
    change(folder)
    args = DataArguments(train_data_dir=str(folder), cache_dir=str(tmp_path.parent / "cache"))
    with one_line_and_nothing_lost(tmp_path, words or str(folder)):
        load_data(args, seed=0)
    assert not canary_of(folder).exists() and not Path("canary").exists()


# Checkpoints ---------------------------------------------------------------------------------------------------------

MANIFEST, STATE, PROCESS = "checkpoint.json", "state.pt", "process-0.pt"
NETWORK = "networks/vae/diffusion_pytorch_model.safetensors"


def described_anew(name: str, change: Change) -> Change:
    """A file is changed, and the manifest describes what it became: only its content can tell."""

    def apply(folder: Path) -> None:
        from hf_genmodels.files import sha256

        change(folder)
        about = {"size": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        changed_json(MANIFEST, lambda content: content["files"].update({name: about}))(folder)

    return apply


def torch_file(name: str, content: Any) -> Change:
    return described_anew(name, lambda folder: torch.save(content, folder / name))


ABOUT = {"size": 1, "sha256": ""}
CHECKPOINTS: dict[str, Change] = {
    **{f"{name} missing": unlinked(name) for name in (MANIFEST, STATE, PROCESS, NETWORK)},
    **{f"{name} empty": written(name, "") for name in (MANIFEST, STATE, PROCESS, NETWORK)},
    **{f"{name} cut": cut(name, 7) for name in (MANIFEST, STATE, PROCESS, NETWORK)},
    **{
        f"{name} forged as {kind}": described_anew(name, replaced_by_code(name, code))
        for name in (STATE, PROCESS, NETWORK)
        for kind, code in CODE.items()
    },
    **{
        f"{name} holds {kind}": torch_file(name, content)
        for name in (STATE, PROCESS)
        for kind, content in {"nothing": {}, "a list": [1], "text": "state", "a tensor": torch.zeros(2)}.items()
    },
    "manifest deep": written(MANIFEST, DEEP),
    "manifest a list": written(MANIFEST, "[]"),
    "manifest of text": written(MANIFEST, "step 2"),
    **{
        f"step {kind}": with_values(MANIFEST, step=value)
        for kind, value in ODD.items()
        if kind not in ("fraction", "true", "zero")
    },
    **{f"files {kind}": with_values(MANIFEST, files=value) for kind, value in ODD.items()},
    **{f"run {kind}": with_values(MANIFEST, run=value) for kind, value in ODD.items()},
    "a file from above": changed_json(MANIFEST, lambda content: content["files"].update({"../../secret": ABOUT})),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    train_vae(options(folder, max_train_steps=2, checkpointing_steps=2))
    return folder


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(trained: Path, tmp_path: Path, name: str) -> None:
    checkpoint = Path(shutil.copytree(trained / "checkpoint-2", tmp_path / "run" / "checkpoint-2"))
    CHECKPOINTS[name](checkpoint)
    with one_line_and_nothing_lost(tmp_path, str(checkpoint)):
        train_vae(options(tmp_path / "run", max_train_steps=4, checkpointing_steps=2, resume_from_checkpoint="latest"))
    assert not canary_of(checkpoint).exists() and not canary_of(checkpoint / "networks" / "vae").exists()


# Files of options, and options --------------------------------------------------------------------------------------

YAML_CODE = "!!python/object/apply:os.system ['touch canary']"
FILES: dict[str, tuple[str, str]] = {
    "a list": ("c.yaml", "- beta"),
    "a number": ("c.yaml", "7"),
    "nothing": ("c.yaml", ""),
    "yaml of code": ("c.yaml", YAML_CODE),
    "a value of code": ("c.yaml", f"beta: {YAML_CODE}"),
    "yaml twice": ("c.yaml", "beta: 1\nbeta: 2"),
    "yaml and a dash twice": ("c.yaml", "latent_dim: 1\nlatent-dim: 2"),
    "json twice": ("c.json", '{"beta": 1, "beta": 2}'),
    "yaml unfinished": ("c.yaml", "beta: [1"),
    "json unfinished": ("c.json", '{"beta": 1'),
    "json deep": ("c.json", DEEP),
    "yaml deep": ("c.yaml", "beta: " + "[" * 3000),
    "an anchor in itself": ("c.yaml", "beta: &a [*a]"),
    "no utf-8": ("c.yaml", "beta: \udcff"),
    "an unknown option": ("c.yaml", "betta: 1"),
    "an option of Python": ("c.yaml", "__class__: 1"),
    "an injected option": ("c.yaml", "block_out_channels: [4, --overwrite_output_dir]"),
    "an injected value": ("c.yaml", "latent_dim: [2, --push_to_hub]"),
    "an object for a number": ("c.yaml", "beta: {a: 1}"),
    "a list for a number": ("c.yaml", "beta: [1, 2]"),
    "text for a number": ("c.yaml", "beta: much"),
    "infinity": ("c.yaml", "beta: .inf"),
    "another family's run": ("c.json", '{"family": "gan", "command": "", "arguments": {}}'),
    "a file of options in itself": ("c.yaml", "config: c.yaml"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_options(tmp_path: Path, name: str) -> None:
    file, content = FILES[name]
    (tmp_path / file).write_bytes(content.encode("utf-8", "surrogateescape"))
    with one_line_and_nothing_lost(tmp_path, file):
        train_vae(["--config", str(tmp_path / file), *options(tmp_path / "run")])
    assert not Path("canary").exists()


# What a network or the data refuse is named by their own names.
NAMED_BY_VALUE = {
    "block_out_channels": "block_out_channels",
    "dataset_name": "",
    "pretrained_model_name_or_path": "no-such-folder",
}
OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    f"{name} = {value}": ({name: value}, NAMED_BY_VALUE.get(name, f"--{name}"))
    for name, values in {
        "seed": (-1, 2**64, 1.5, "x"),
        "train_batch_size": (0, -1, 10**9, "2.5"),
        "max_train_steps": (0, -5, "many"),
        "num_train_epochs": (0, "x"),
        "learning_rate": ("nan", "inf", 0, -1e-3),
        "gradient_accumulation_steps": (0, 1.5),
        "checkpointing_steps": (-1,),
        "checkpoints_total_limit": (0, -1),
        "dataloader_num_workers": (-1, "two"),
        "num_threads": (0, -2),
        "max_grad_norm": (0, "nan"),
        "adam_beta1": (1, -0.1),
        "adam_epsilon": (0,),
        "lr_scheduler": ("zigzag",),
        "optimizer": ("os.system",),
        "mixed_precision": ("fp4",),
        "latent_dim": (0, -3, "x"),
        "beta": ("nan", -1),
        "block_out_channels": ("0", "-4"),
        "resolution": (0, -8, "8x8"),
        "max_train_samples": (0, -1),
        "train_split": ("no-such-split",),
        "dataset_name": ("builtin:no-such-set", "", "no/such/folder/anywhere"),
        "resume_from_checkpoint": ("checkpoint-7",),
        "pretrained_model_name_or_path": ("no-such-folder/at/all",),
    }.items()
    for value in values
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(tmp_path: Path, name: str) -> None:
    changes, words = OPTIONS[name]
    with one_line_and_nothing_lost(tmp_path, words):
        train_vae(options(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


# Calls of the command line ------------------------------------------------------------------------------------------

COMMANDS: dict[str, tuple[str, str]] = {
    "sample nothing": ("sample {tmp}/nowhere --output_dir {tmp}/out", "nowhere"),
    "sample a file": ("sample {model}/model_index.json --output_dir {tmp}/out", "model_index.json"),
    "sample into a file": ("sample {model} --output_dir {tmp}/file", "file"),
    "sample into what is there": ("sample {model} --output_dir {tmp}/full", "--overwrite"),
    "sample no image": ("sample {model} --output_dir {tmp}/out --num_samples 0", "--num_samples"),
    "sample batches of nothing": ("sample {model} --output_dir {tmp}/out --batch_size -1", "--batch_size"),
    "sample with a huge seed": ("sample {model} --output_dir {tmp}/out --seed 99999999999999999999999", "--seed"),
    "sample classes of no classes": ("sample {model} --output_dir {tmp}/out --class_labels 1", "class_labels"),
    "sample steps of no steps": ("sample {model} --output_dir {tmp}/out --num_inference_steps 3", "num_inference"),
    "sample a checkpoint": ("sample {run}/checkpoint-2 --output_dir {tmp}/out", "checkpoint"),
    "evaluate nothing": ("evaluate {tmp}/nowhere --dataset_name builtin:digits --metrics mse", "nowhere"),
    "evaluate by nothing": ("evaluate {model} --dataset_name builtin:digits --metrics beauty", "beauty"),
    "evaluate on nothing": ("evaluate {model} --dataset_name builtin:nothing --metrics mse", "'nothing'"),
    "evaluate no data": ("evaluate {model} --metrics mse", "--dataset_name"),
    "evaluate a checkpoint": ("evaluate {run}/checkpoint-2 --dataset_name builtin:digits --metrics mse", "checkpoint"),
    "evaluate a split of none": (
        "evaluate {model} --dataset_name builtin:digits --metrics mse --split none",
        "none",
    ),
    "evaluate no images": ("evaluate {model} --dataset_name builtin:digits --metrics mse --num_samples 0", "num_s"),
    "evaluate other images": ("evaluate {model} --dataset_name builtin:toy2d --metrics mse", ""),
    "apply nothing": ("apply {tmp}/nowhere {tmp}/full --output_dir {tmp}/out", "nowhere"),
    "apply to nothing": ("apply {model} {tmp}/nowhere --output_dir {tmp}/out", "nowhere"),
    "apply to a file": ("apply {model} {tmp}/file --output_dir {tmp}/out", "file"),
    "apply to no images": ("apply {model} {tmp}/full --output_dir {tmp}/out", "full"),
    "apply into its images": ("apply {model} {tmp}/pictures --output_dir {tmp}/pictures", "pictures"),
    "apply to other sizes": ("apply {model} {tmp}/pictures --output_dir {tmp}/out", "a.png"),
    "apply what it cannot": ("apply {model} {tmp}/pictures --output_dir {tmp}/out --task translate", "translate"),
    "apply by no images": ("apply {model} {tmp}/pictures --output_dir {tmp}/out --batch_size 0", "--batch_size"),
    "a card of nothing": ("card {tmp}/nowhere", "nowhere"),
    "a card of a file": ("card {tmp}/file", "file"),
    "convert nothing": ("convert pix2pix {tmp}/nowhere.pth {tmp}/out", "nowhere.pth"),
    "convert text": ("convert pix2pix {tmp}/file {tmp}/out", "file"),
    "convert code": ("convert pix2pix {tmp}/code.pth {tmp}/out", "code.pth"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands(model: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    pickled(tmp_path / "code.pth")
    picture("pictures/a.png", size=(5, 5))(tmp_path)
    command, words = COMMANDS[name]
    before = [snapshot(folder) for folder in (tmp_path, model, trained)]
    assert main(command.format(tmp=tmp_path, model=model, run=trained).split()) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and words in said[0], said
    assert [snapshot(folder) for folder in (tmp_path, model, trained)] == before
    assert not canary_of(tmp_path).exists()
