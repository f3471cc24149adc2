"""A resumed run learns from the images it began with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hf_genmodels.data.sets import order
from hf_genmodels.training.train_vae import main
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import interrupted, options, same_bytes, write_pictures

CHANGES: dict[str, Any] = {
    "dataset_name": None, "train_batch_size": 8, "max_train_steps": 8, "checkpointing_steps": 2,
}  # fmt: skip


def several_sizes(folder: Path) -> dict[str, Any]:
    """Images that are not held in memory."""
    write_pictures(folder, count=20)
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 50), dtype=np.uint8)).save(folder / "wide.png")
    return {**CHANGES, "train_data_dir": folder, "resolution": 8}


def damage(path: Path) -> None:
    """As a bad disk does it: only decoding shows it."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 50] = bytes(50)
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["wide.png", "003.png"])
def test_another_image_in_the_same_place_is_noticed(tmp_path: Path, name: str) -> None:
    changes = several_sizes(tmp_path / "pictures")
    main(options(tmp_path / "whole", **changes))
    run = interrupted(tmp_path / "whole", 4, tmp_path / "run")
    path = tmp_path / "pictures" / name
    with Image.open(path) as image:
        Image.fromarray(255 - np.asarray(image)).save(path)
    with refused("is of another run: files of the data"):
        main(options(run, **changes, resume_from_checkpoint="latest"))


def test_a_copy_of_the_images_is_the_same(tmp_path: Path) -> None:
    changes = several_sizes(tmp_path / "pictures")
    main(options(tmp_path / "whole", **changes))
    run = interrupted(tmp_path / "whole", 4, tmp_path / "run")
    (tmp_path / "pictures").rename(tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", tmp_path / "pictures", copy_function=shutil.copyfile)
    main(options(run, **changes, resume_from_checkpoint="latest"))
    assert same_bytes(tmp_path / "whole" / "vae", run / "vae")


def test_a_checkpoint_that_knows_no_files_is_gone_on_with(tmp_path: Path) -> None:
    """As version 0.1.0 wrote them."""
    changes = several_sizes(tmp_path / "pictures")
    main(options(tmp_path / "whole", **changes))
    run = interrupted(tmp_path / "whole", 4, tmp_path / "run")
    manifest = run / "checkpoint-4" / "checkpoint.json"
    content = json.loads(manifest.read_text())
    assert content["run"].pop("files of the data")
    for name in ("--side_by_side", "--direction"):
        del content["run"][name]
    manifest.write_text(json.dumps(content))
    main(options(run, **changes, resume_from_checkpoint="latest"))
    assert same_bytes(tmp_path / "whole" / "vae", run / "vae")


def test_a_run_that_stopped_at_a_damaged_image_goes_on_without_it(tmp_path: Path) -> None:
    changes = several_sizes(tmp_path / "pictures")
    pictures = sorted((tmp_path / "pictures").iterdir())
    (met_second,) = order(0, 0, np.array([8]), len(pictures))
    damage(pictures[met_second])
    run, where = tmp_path / "run", f"{pictures[met_second].name} cannot be read"
    changes |= {"checkpointing_steps": 1, "max_train_steps": 12}
    with refused(f"{where} .* pass --on_bad_image skip"):
        main(options(run, **changes))
    assert (run / "checkpoint-1").is_dir()
    with refused(where):
        main(options(run, **changes, resume_from_checkpoint="latest"))
    main(options(run, **changes, resume_from_checkpoint="latest", on_bad_image="skip"))
    assert json.loads((run / "metrics.json").read_text())["step"] == 12


def test_a_run_inside_its_data_goes_on(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    changes = {**CHANGES, "train_data_dir": pictures, "sample_steps": 2}
    main(options(tmp_path / "whole", **changes))
    run = pictures / "runs" / "vae"
    main(options(run, **changes))
    assert list((run / "samples").glob("*.png"))
    run = interrupted(run, 4, pictures / "resumed")
    main(options(run, **changes, resume_from_checkpoint="latest"))
    assert same_bytes(tmp_path / "whole" / "vae", run / "vae")
