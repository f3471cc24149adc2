"""What a user can get wrong: one line that says what and where, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hf_genmodels.training.train_vae import main
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import options, run, script, write_pictures


def text_named_png(folder: Path) -> dict[str, Any]:
    (write_pictures(folder) / "013.png").write_text("no picture")
    return {"says": "013.png"}


def truncated_png(folder: Path) -> dict[str, Any]:
    path = write_pictures(folder) / "013.png"
    path.write_bytes(path.read_bytes()[:-30])
    return {"says": "013.png"}


def truncated_jpeg_among_several_sizes(folder: Path) -> dict[str, Any]:
    write_pictures(folder)
    Image.new("L", (10, 8)).save(folder / "wide.jpg")
    (folder / "wide.jpg").write_bytes((folder / "wide.jpg").read_bytes()[:-20])
    return {"resolution": 8, "says": "wide.jpg"}


def stream_shorter_than_a_batch(folder: Path) -> dict[str, Any]:
    write_pictures(folder, count=7)
    return {"streaming": True, "says": "--train_batch_size"}


def sixteen_bits_among_rgb(folder: Path) -> dict[str, Any]:
    Image.fromarray(np.zeros((8, 8), dtype=np.uint16)).save(write_pictures(folder, channels=3) / "013.png")
    return {"says": "013.png"}


def grey_among_rgb(folder: Path) -> dict[str, Any]:
    Image.new("L", (8, 8)).save(write_pictures(folder, channels=3) / "013.png")
    return {"says": "013.png"}


def another_size(folder: Path) -> dict[str, Any]:
    Image.new("L", (9, 9)).save(write_pictures(folder) / "013.png")
    return {"says": "013.png"}


def empty_folder(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    return {"says": folder}


def missing_folder(folder: Path) -> dict[str, Any]:
    return {"says": folder}


def batch_larger_than_the_data(folder: Path) -> dict[str, Any]:
    write_pictures(folder, count=20)
    return {"train_batch_size": 15, "gradient_accumulation_steps": 2, "says": "--train_batch_size"}


def resolution_of_no_network(folder: Path) -> dict[str, Any]:
    write_pictures(folder)
    return {"resolution": 3, "block_out_channels": (4, 8, 16), "says": "3"}


def nan_in_the_data(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    for number in range(40):
        np.save(folder / f"{number:03}.npy", np.full((8, 8), np.nan if number == 17 else 0.5, dtype=np.float32))
    return {"says": "017.npy"}


def unknown_option_in_the_file(folder: Path) -> dict[str, Any]:
    write_pictures(folder)
    (folder.parent / "options.yaml").write_text("learning_rat: 1e-3\n")
    return {"config": folder.parent / "options.yaml", "says": "learning_rat"}


CASES = [
    *(text_named_png, truncated_png, sixteen_bits_among_rgb, grey_among_rgb, another_size, empty_folder),
    *(missing_folder, batch_larger_than_the_data, resolution_of_no_network, nan_in_the_data),
    *(unknown_option_in_the_file, truncated_jpeg_among_several_sizes, stream_shorter_than_a_batch),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_bad_input_is_one_line(tmp_path: Path, case: Callable[[Path], dict[str, Any]]) -> None:
    changes = {"dataset_name": None, "train_batch_size": 8, "cache_dir": tmp_path / "cache"}
    changes |= {"train_data_dir": tmp_path / "pictures", **case(tmp_path / "pictures")}
    says = str(changes.pop("says"))
    with refused() as error:
        main(options(tmp_path / "run", **changes))
    assert says in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_script_says_it_and_exits_with_status_1(tmp_path: Path) -> None:
    changes = {"dataset_name": None, "train_batch_size": 8, "cache_dir": tmp_path / "cache"}
    changes |= {"train_data_dir": tmp_path / "pictures", **text_named_png(tmp_path / "pictures")}
    says = str(changes.pop("says"))
    done = run(script("vae", options(tmp_path / "run", **changes)))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert says in last
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dataset_name": None}, "--dataset_name"),
        ({"train_data_dir": "."}, "--train_data_dir"),
        ({"dataset_name": "builtin:nonsense"}, "nonsense"),
        ({"dataset_config_name": "nonsense"}, "nonsense"),
        ({"train_split": "nonsense"}, "nonsense"),
        ({"exclude_label": "11"}, "--exclude_label"),
        ({"max_train_samples": 10}, "--train_batch_size"),
        ({"likelihood": "bernoulli", "learn_std": True}, "--learn_std"),
        ({"dataset_name": "builtin:toy2d"}, "--architecture"),
        ({"dataloader_num_workers": -1}, "--dataloader_num_workers"),
        ({"lr_scheduler": "constant_then_linear", "lr_decay_start_step": 20}, "--lr_decay_start_step"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with refused() as error:
        main(options(tmp_path / "run", **changes))
    assert says in str(error.value)
    assert not (tmp_path / "run").exists()
