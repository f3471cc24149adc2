"""Files that are written whole or not at all, and JSON that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hf_genmodels import UserError
from hf_genmodels.cards import KEEP_MARKER, write_card
from hf_genmodels.cli import main
from hf_genmodels.files import copy_file, filling, read_json, replacing
from hf_genmodels.metrics.record import write_evaluation
from tests.testing_utils.full_disk import full_disk
from tests.testing_utils.model_folders import METRICS, write_json, write_trained_model
from tests.testing_utils.refusals import refused

RESULT = {"name": "FID", "value": 1.0, "settings": {"dataset": "d", "num_samples": 4}}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    folder = write_trained_model(tmp_path / "digits")
    card = write_card(folder, license="mit")
    card.write_text(card.read_text(encoding="utf-8") + "\nMy own words.\n", encoding="utf-8")
    return folder


def test_a_full_disk_leaves_the_card_and_the_figures(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(trained)
    with full_disk(100):
        with refused(f"{trained / 'README.md'} cannot be written: File too large"):
            write_card(trained)
        with refused(f"{trained / 'metrics.json'} cannot be written: File too large"):
            write_evaluation(trained, [RESULT])
        assert main(["card", str(trained)]) == 1
    assert capsys.readouterr().err == f"error: {trained / 'README.md'} cannot be written: File too large\n"
    assert contents(trained) == before
    write_card(trained)
    assert (trained / "README.md").read_text(encoding="utf-8").endswith(f"{KEEP_MARKER}\n\nMy own words.\n")


def test_a_copy_is_whole_or_not_there(trained: Path, tmp_path: Path) -> None:
    with full_disk(5), refused("losses.png cannot be written"):
        copy_file(trained / "losses.png", tmp_path / "copy" / "losses.png")
    assert not contents(tmp_path / "copy")
    copy_file(trained / "losses.png", tmp_path / "copy" / "losses.png")
    assert contents(tmp_path / "copy") == {"losses.png": b"losses.png"}


@pytest.mark.parametrize("error", [OSError("wires cut"), KeyboardInterrupt(), ValueError("anything")], ids=repr)
def test_a_block_that_fails_changes_nothing(error: BaseException, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("before")
    before = contents(tmp_path)
    kind = UserError if isinstance(error, OSError) else type(error)
    for folder in (tmp_path / "full", tmp_path / "new"):
        with pytest.raises(kind), filling(folder) as new:
            (new / "a.txt").write_text("after")
            raise error
    with pytest.raises(kind), replacing(tmp_path / "full" / "a.txt") as new:
        new.write_text("after")
        raise error
    assert contents(tmp_path) == before and not (tmp_path / "new").exists()


def test_a_folder_in_the_way_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "README.md").mkdir()
    with refused("README.md cannot be written: Is a directory"), replacing(tmp_path / "README.md") as new:
        new.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_a_full_disk_leaves_earlier_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.test_cli import saved_vae

    saved_vae(tmp_path / "model")
    out = tmp_path / "out"
    arguments = ["sample", str(tmp_path / "model"), "--num_samples", "3", "--output_dir", str(out)]
    assert main(arguments) == 0
    before = contents(out)
    for room in (0, 200):  # at once, and at the grid, which is larger than the pictures
        with full_disk(room):
            assert main([*arguments, "--seed", "5", "--overwrite"]) == 1
            assert main([*arguments[:-1], str(tmp_path / "new")]) == 1
        assert capsys.readouterr().err.count(f"error: {out} cannot be written: File too large") == 1
    assert contents(out) == before and not (tmp_path / "new").exists()
    (out / "notes.txt").write_text("mine")
    assert main([*arguments, "--num_samples", "2", "--overwrite"]) == 0
    assert set(contents(out)) == {"00000.png", "00001.png", "grid.png", "notes.txt"}


@pytest.mark.parametrize("output_dir", ["file", "file/below"])
def test_sample_refuses_a_file_as_its_folder_before_it_loads(
    output_dir: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["sample", "nothing/there", "--output_dir", str(tmp_path / output_dir)]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: --output_dir {tmp_path / output_dir}")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"a": ' * 60 + "1" + "}" * 60, "[" * 100_000, '{"a": ' + "9" * 5000 + "}", b"\xff\xfe"],
    ids=["empty", "cut", "list", "number", "deep", "very deep", "long integer", "bytes"],
)
def test_json_that_cannot_be_read(text: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with refused(f"{path} (cannot be read as JSON|must hold a JSON object)"):
        read_json(path)


def test_metrics_stay_as_they_are(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", METRICS | {"mine": [1]})
    write_evaluation(tmp_path, [RESULT])
    content = read_json(tmp_path / "metrics.json")
    assert content["mine"] == [1] and content["evaluation"] == [*METRICS["evaluation"], RESULT]
    assert np.isnan(content["validation"]["kl"])


def test_names_as_long_as_they_may_be_and_longer(tmp_path: Path) -> None:
    with replacing(tmp_path / ("x" * 251 + ".png")) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"1")
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]
    with refused("cannot be written: File name too long"), replacing(tmp_path / ("x" * 300)) as temporary:
        temporary.write_bytes(b"1")
    assert len(list(tmp_path.iterdir())) == 1
