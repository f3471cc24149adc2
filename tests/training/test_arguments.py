import json
import re
import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hf_genmodels.errors import UserError
from hf_genmodels.families import FAMILIES, Family
from hf_genmodels.families.autoencoder import AutoencoderArguments
from hf_genmodels.families.gan import GANArguments
from hf_genmodels.families.polarimetric import PolarimetricArguments
from hf_genmodels.families.vae import VAEArguments
from hf_genmodels.training.arguments import TrainingArguments, check_arguments, command_line, loop_defaults, parse
from hf_genmodels.training.train_vae import main
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import options, same_bytes

OUT = ["--output_dir", "runs/vae"]


def parsed(*words: str, family: type = VAEArguments) -> tuple[Any, Any, Any]:
    return parse([*OUT, *words], family, "Train.", "vae")


def write(folder: Path, content: str, name: str = "options.yaml") -> str:
    path = folder / name
    path.write_text(content)
    return str(path)


def test_defaults_and_command_line() -> None:
    data, training, family = parsed("--train_batch_size", "7", "--resolution", "16", "--beta", "2.5")
    assert (training.output_dir, training.train_batch_size, training.learning_rate) == ("runs/vae", 7, 1e-3)
    assert (data.resolution, data.train_split) == (16, "train")
    assert (family.beta, family.latent_dim) == (2.5, 32)


@pytest.mark.parametrize("name", ["options.yaml", "options.yml", "options.json"])
def test_command_line_wins_over_file_and_file_over_default(tmp_path: Path, name: str) -> None:
    content = {"train_batch_size": 7, "learning_rate": 0.25, "block_out_channels": [3, 5], "beta": 4.0}
    config = write(tmp_path, json.dumps(content), name)  # JSON is YAML too
    _, training, family = parsed("--config", config, "--learning_rate", "0.5", "--block_out_channels", "8")
    assert (training.train_batch_size, training.learning_rate, training.log_steps) == (7, 0.5, 50)
    assert (family.beta, family.block_out_channels, family.latent_dim) == (4.0, [8], 32)
    _, training, _ = parsed("--learning_rate", "0.5", f"--config={config}")
    assert training.learning_rate == 0.5


def test_values_of_a_yaml_file(tmp_path: Path) -> None:
    config = write(
        tmp_path,
        "learning_rate: 1e-4\nuse_ema: true\npush_to_hub: false\ncenter_crop: yes\nblock_out_channels: [16, 32]\n"
        "hidden_dims:\n  - 7\nmixed_precision: no\nmax_train_steps: null\nmax_grad_norm:\ntrain_split: -train\n",
    )
    data, training, family = parsed("--config", config)
    assert isinstance(training.learning_rate, float)
    assert training.learning_rate == 1e-4
    assert (training.use_ema, training.push_to_hub, data.center_crop) == (True, False, True)
    assert (family.block_out_channels, family.hidden_dims) == ([16, 32], [7])
    assert training.mixed_precision == "no"  # YAML itself would read False
    assert (training.max_train_steps, training.max_grad_norm) == (None, None)
    assert data.train_split == "-train"


def test_values_of_a_json_file(tmp_path: Path) -> None:
    config = write(tmp_path, '{"use_ema": true, "center_crop": false, "max_train_steps": null}', "options.json")
    data, training, _ = parsed("--config", config)
    assert (training.use_ema, data.center_crop, training.max_train_steps) == (True, False, None)


@pytest.mark.parametrize("option", ["--num_train_epochs", "--num_epochs", "--num-train-epochs"])
def test_epochs_have_two_names(option: str) -> None:
    assert parsed(option, "3")[1].num_train_epochs == 3


def test_both_names_of_the_epochs_in_a_file(tmp_path: Path) -> None:
    for name in ("num_epochs", "num_train_epochs"):
        assert parsed("--config", write(tmp_path, f"{name}: 3"))[1].num_train_epochs == 3


@pytest.mark.parametrize("name", ["options.yaml", "options.json"])
def test_hyphens_in_a_file(tmp_path: Path, name: str) -> None:
    config = write(tmp_path, '{"train-batch-size": 7, "num-epochs": 3, "hidden-dims": [4, 2]}', name)
    _, training, family = parsed("--config", config)
    assert (training.train_batch_size, training.num_train_epochs, family.hidden_dims) == (7, 3, [4, 2])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("nonsense: 1", "nonsense"),
        ("latent_dims: 8", "latent_dims"),
        ("config: other.yaml", "config"),
        ("learning_rate: fast", "learning_rate"),
        ("learning_rate: [0.1, 0.2]", "0.2"),
        ("train_batch_size: 2.5", "train_batch_size"),
        ("use_ema: perhaps", "use_ema"),
        ("lr_scheduler: sawtooth", "lr_scheduler"),
        ("block_out_channels: [4, wide]", "block_out_channels"),
        ("- learning_rate", "option: value"),
        ("", "option: value"),
        ("a: [1", "cannot be read"),
        ("seed: 1\nseed: 2", "'seed' is given twice"),
        ("num_epochs: 1\nnum_train_epochs: 2", "'num_epochs' and 'num_train_epochs' are one option"),
        ("log_steps: 1\nlog-steps: 2", "'log_steps' and 'log-steps' are one option"),
        ("block_out_channels: [4, --overwrite_output_dir]", "block_out_channels: an entry of a list cannot be an"),
        ("hidden_dims: [4, -h]", "hidden_dims: an entry of a list cannot be an"),
        ("hidden_dims: [[4]]", "hidden_dims must be a value or a list of values"),
        ("logging_dir: {a: 1}", "logging_dir must be a value or a list of values"),
        ("[1]: 2", "is no name of an option"),
        ("a: &x [*x]", "cannot be read"),
        ("{" * 9999, "cannot be read"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path: Path, content: str, said: str) -> None:
    config = write(tmp_path, content)
    with refused() as error:
        parsed("--config", config)
    assert config in str(error.value)
    assert said in str(error.value)


def test_a_json_file_that_says_a_thing_twice(tmp_path: Path) -> None:
    for content in ('{"seed": 1, "seed": 2}', '{"family": "vae", "command": "", "arguments": {"seed": 1, "seed": 2}}'):
        with refused("'seed' is given twice"):
            parsed("--config", write(tmp_path, content, "options.json"))


def test_negative_numbers_in_a_list_are_no_options(tmp_path: Path) -> None:
    assert parsed("--config", write(tmp_path, "hidden_dims: [-4]"))[2].hidden_dims == [-4]


def test_an_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    write(tmp_path, "{", "broken.json")
    for name in ("missing.yaml", ".", "binary.yaml", "broken.json"):
        with refused("cannot be read") as error:
            parsed("--config", str(tmp_path / name))
        assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nonsense", "1"], "--nonsense"),
        (["--learn", "1"], "--learn"),  # no abbreviations: they would change meaning with the next option added
        (["--learning_rate", "fast"], "--learning_rate"),
        (["--lr_scheduler", "sawtooth"], "--lr_scheduler"),
        (["--mixed_precision", "int8"], "--mixed_precision"),
        (["--use_ema", "perhaps"], "--use_ema"),
        (["stray"], "stray"),
        (["--config"], "--config"),
        (["--regularizer", "l1"], "--regularizer"),  # the autoencoder's
    ],
)
def test_a_wrong_command_line_is_one_line(words: list[str], said: str) -> None:
    with refused() as error:
        parsed(*words)
    assert said in str(error.value)


def test_output_dir_is_required() -> None:
    with pytest.raises(UserError, match="--output_dir"):
        parse([], VAEArguments, "Train.")


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize(
    "name",
    [
        *("learning_rate", "lr_final_ratio", "adam_weight_decay", "adam_epsilon", "max_grad_norm"),
        *("ema_inv_gamma", "ema_power", "beta", "free_bits"),
    ],
)
def test_numbers_are_finite(name: str, value: str) -> None:
    with pytest.raises(UserError, match=f"--{name} must be a finite number, got {value}"):
        parsed(f"--{name}={value}")


def test_numbers_of_a_list_are_finite() -> None:
    with pytest.raises(UserError, match="--mmd_bandwidths must be a finite number, got inf"):
        parsed("--output_dir", "x", "--generator_loss", "mmd", "--mmd_bandwidths", "0.1", "inf", family=GANArguments)


def test_a_warm_up_needs_a_schedule_that_has_one() -> None:
    with pytest.raises(UserError, match=r"--lr_warmup_steps .* use constant_with_warmup"):
        parsed("--lr_warmup_steps", "5")
    assert parsed("--lr_warmup_steps", "5", "--lr_scheduler", "constant_with_warmup")[1].lr_warmup_steps == 5


def test_each_family_has_its_own_options() -> None:
    assert parsed("--regularizer", "l1", family=AutoencoderArguments)[2].regularizer == "l1"


@pytest.mark.parametrize(
    "option",
    [
        {"train_batch_size": 0},
        {"eval_batch_size": 0},
        {"num_train_epochs": 0},
        {"max_train_steps": 0},
        {"gradient_accumulation_steps": -1},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"max_grad_norm": 0},
        {"adam_beta1": 1.5},
        {"adam_beta2": -0.1},
        {"adam_weight_decay": -1},
        {"adam_epsilon": 0},
        {"lr_warmup_steps": -1},
        {"seed": -1},
        {"seed": 2**64},
        {"lr_final_ratio": 0.1},
        {"lr_decay_start_step": 5},
        {"ema_max_decay": 0.9},
        {"ema_inv_gamma": 2},
        {"ema_power": 0.5},
        {"log_steps": 0},
        {"sample_steps": 0},
        {"num_threads": 0},
        {"checkpointing_steps": -1},
        {"checkpoints_total_limit": 0},
        {"ema_max_decay": 1.5},
        {"ema_inv_gamma": 0},
    ],
    ids=str,
)
def test_impossible_values_are_refused(option: dict[str, Any]) -> None:
    _, training, _ = parsed()
    check_arguments(training)
    for name, value in option.items():
        setattr(training, name, value)
        with pytest.raises(UserError, match=f"--{name} "):
            check_arguments(training)


def test_options_that_need_another_are_taken_with_it(tmp_path: Path) -> None:
    assert parsed("--use_ema", "--ema_power", "0.5")[1].ema_power == 0.5
    assert parsed("--lr_scheduler", "exponential", "--lr_final_ratio", "0.1")[1].lr_final_ratio == 0.1
    translator = FAMILIES["pix2pix"].arguments  # whose own schedule decays linearly
    assert parsed("--lr_decay_start_step", "5", family=translator)[1].lr_decay_start_step == 5
    with refused("--lr_decay_start_step has no effect without --lr_scheduler constant_then_linear"):
        parsed("--lr_decay_start_step", "5", "--lr_scheduler", "cosine", family=translator)
    with refused("--ema_device has no effect without --use_ema"):
        parsed("--ema_device", "cpu")
    with refused("--ema_power has no effect without --use_ema"):
        parsed("--use_ema", "false", "--ema_power", "0.5", family=FAMILIES["ddpm"].arguments)


def test_the_largest_seed(tmp_path: Path) -> None:
    main(options(tmp_path / "run", seed=2**64 - 1, max_train_steps=1))


def test_resume_and_overwrite_contradict() -> None:
    with pytest.raises(UserError, match="contradict"):
        parsed("--resume_from_checkpoint", "latest", "--overwrite_output_dir")


REPEATED = [
    *("--dataset_name", "builtin:digits", "--exclude_label", "3", "--train_split", "a b", "--random_flip"),
    *("--max_train_samples", "100", "--learning_rate", "1e-7", "--use_ema", "True", "--mixed_precision", "no"),
    *("--max_grad_norm", "0.1", "--block_out_channels", "4", "8", "--hidden_dims", "7", "--beta", "2.5"),
]


def test_the_command_repeats_a_run() -> None:
    groups = parsed(*REPEATED, "--image_column=-image")
    words = shlex.split(command_line("vae", groups))
    assert words[:5] == ["accelerate", "launch", "training/train_vae.py", "--dataset_name", "builtin:digits"]
    assert parse(words[3:], VAEArguments, "Train.") == groups
    assert not {"--log_steps", "--train_batch_size", "--latent_dim", "--center_crop"} & set(words)  # at their defaults


def test_the_command_has_the_options_of_the_file(tmp_path: Path) -> None:
    groups = parsed("--config", write(tmp_path, "beta: 2\nseed: 1\n"), "--seed", "4")
    expected = "accelerate launch training/train_vae.py --output_dir runs/vae --seed 4 --beta 2.0"
    assert command_line("vae", groups) == expected


def test_the_command_of_several_processes() -> None:
    command = command_line("vae", parsed(), 4)
    assert command == "accelerate launch --num_processes 4 training/train_vae.py --output_dir runs/vae"


@dataclass
class OtherDefaults:
    """A family with defaults of its own for options of the loop."""

    loop_defaults: ClassVar[dict[str, Any]] = {"learning_rate": 2e-4, "adam_beta1": 0.5, "use_ema": True}

    depth: int = field(default=3, metadata={"help": "A number."})


def test_a_familys_defaults_for_options_of_the_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, training, _ = parsed(family=OtherDefaults)
    assert (training.learning_rate, training.adam_beta1, training.use_ema) == (2e-4, 0.5, True)
    assert (training.adam_beta2, parsed()[1].learning_rate) == (0.999, 1e-3)
    config = write(tmp_path, "learning_rate: 0.25\nadam_beta1: 0.9\nuse_ema: false")
    _, training, _ = parsed("--config", config, "--adam_beta1", "0.75", family=OtherDefaults)
    assert (training.learning_rate, training.adam_beta1, training.use_ema) == (0.25, 0.75, False)
    with pytest.raises(SystemExit):
        parsed("--help", family=OtherDefaults)
    assert re.search(r"--learning_rate .*?\(default:\s+0\.0002\)", capsys.readouterr().out, re.DOTALL)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], []),
        (["--learning_rate", "2e-4", "--use_ema"], []),
        (["--learning_rate", "1e-3", "--adam_beta1", "0.9"], ["--learning_rate", "0.001", "--adam_beta1", "0.9"]),
        (["--use_ema", "false", "--depth", "4"], ["--use_ema", "False", "--depth", "4"]),
    ],
    ids=str,
)
def test_the_command_repeats_a_run_of_a_family_with_its_own_defaults(words: list[str], shown: list[str]) -> None:
    groups = parsed(*words, family=OtherDefaults)
    command = shlex.split(command_line("vae", groups))
    assert command[3:] == [*OUT, *shown]
    assert parse(command[3:], OtherDefaults, "Train.") == groups


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_what_families_give_defaults_for_exists(family: Family) -> None:
    assert set(loop_defaults(family.arguments)) <= {option.name for option in fields(TrainingArguments)}


@pytest.mark.parametrize(
    "words",
    [
        *(["--hub_token", "hf_x"], ["--hub_token=hf_x"], ["--hub-token", "hf_x"], ["--hub-token=hf_x"]),
        *(["--overwrite_output_dir"], ["--resume_from_checkpoint", "latest"]),
    ],
)
def test_what_is_in_no_command(words: list[str]) -> None:
    groups = parsed("--seed", "1", *words, "--output_dir", "my runs")
    assert command_line("vae", groups) == "accelerate launch training/train_vae.py --output_dir 'my runs' --seed 1"
    assert groups != parsed("--seed", "1", "--output_dir", "my runs")


def test_resolved_options_are_saved_without_the_token(tmp_path: Path) -> None:
    config = write(tmp_path, "hub_token: hf_filesecret\nbeta: 2\n")
    run = tmp_path / "run"
    main(options(run, max_train_steps=1, config=config, checkpointing_steps=0))
    saved = (run / "training_args.json").read_text()
    assert "hf_filesecret" not in saved
    content = json.loads(saved)
    assert content["family"] == "vae"
    assert content["command"].startswith("accelerate launch training/train_vae.py --dataset_name ")
    assert "config" not in content["command"]
    assert "hub_token" not in content["arguments"]
    assert content["arguments"] | {"beta": 2.0, "latent_dim": 2, "max_train_steps": 1} == content["arguments"]
    assert content["arguments"]["dataset_name"] == "builtin:digits"
    assert not any("hf_filesecret" in path.read_text("latin-1") for path in run.rglob("*") if path.is_file())


def test_saved_options_start_the_same_run(tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    main(options(first, beta=2, max_train_steps=2, overwrite_output_dir=True, resume_from_checkpoint=None))
    saved = first / "training_args.json"
    main(["--config", str(saved), "--output_dir", str(again)])
    assert same_bytes(first / "vae", again / "vae")
    old, new = (json.loads((run / "training_args.json").read_text()) for run in (first, again))
    changed = {"output_dir": str(again), "overwrite_output_dir": False}  # which is never taken from a file of a run
    assert new["arguments"] == old["arguments"] | changed
    assert new["command"] == old["command"].replace(str(first), str(again))


def test_saved_options_of_another_family(tmp_path: Path) -> None:
    content = {"family": "autoencoder", "command": "", "arguments": {"seed": 3}}
    config = write(tmp_path, json.dumps(content), "training_args.json")
    with pytest.raises(UserError, match=f"--config {config} has the options of a run of autoencoder, this is vae"):
        parsed("--config", config)
    assert parse([*OUT, "--config", config], AutoencoderArguments, "Train.", "autoencoder")[1].seed == 3


@pytest.mark.parametrize(
    ("words", "meant"),
    [((), None), (("--project_translations",), True), (("--project_translations", "false"), False)],
)
def test_an_option_that_a_saved_model_answers_can_be_switched_off(words: tuple[str, ...], meant: bool | None) -> None:
    _, _, family = parsed("--output_dir", "x", *words, family=PolarimetricArguments)
    assert family.project_translations is meant
