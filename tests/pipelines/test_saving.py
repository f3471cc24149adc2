"""A folder that is saved to again holds the new weights alone, and loads."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
import torch

from hf_genmodels import VAEPipeline
from tests.testing_utils.full_disk import full_disk
from tests.testing_utils.pipelines import tiny_pipeline
from tests.testing_utils.refusals import refused

WAYS = {"whole": None, "two shards": "2KB", "many shards": 500}


def filled(value: float) -> VAEPipeline:
    pipeline = tiny_pipeline("VAEPipeline")
    with torch.no_grad():
        pipeline.vae.posterior.bias.fill_(value)
    return pipeline


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize(("first", "second"), list(permutations(WAYS, 2)))
def test_saving_again_in_another_way(first, second, variant, tmp_path):
    filled(1.0).save_pretrained(tmp_path / "model", max_shard_size=WAYS[first], variant=variant)
    filled(2.0).save_pretrained(tmp_path / "model", max_shard_size=WAYS[second], variant=variant)
    filled(2.0).save_pretrained(tmp_path / "fresh", max_shard_size=WAYS[second], variant=variant)
    assert names(tmp_path / "model") == names(tmp_path / "fresh")
    loaded = VAEPipeline.from_pretrained(tmp_path / "model", variant=variant)
    assert (loaded.vae.posterior.bias == 2).all()


@pytest.mark.parametrize("way", WAYS)
def test_other_variants_stay(way, tmp_path):
    for value, variant, size in ((1.0, None, "2KB"), (2.0, "fp16", None), (3.0, "ema.1", "2KB")):
        filled(value).save_pretrained(tmp_path, variant=variant, max_shard_size=size)
    filled(4.0).save_pretrained(tmp_path, variant="fp16", max_shard_size=WAYS[way])
    for value, variant in ((1.0, None), (4.0, "fp16"), (3.0, "ema.1")):
        assert (VAEPipeline.from_pretrained(tmp_path, variant=variant).vae.posterior.bias == value).all()


def test_what_others_put_into_the_folder_stays(tmp_path):
    (tmp_path / "vae").mkdir()
    for name in ("README.md", "vae/notes.txt", "vae/other.safetensors"):
        (tmp_path / name).write_text("mine")
    filled(1.0).save_pretrained(tmp_path)
    assert {"README.md", "vae/notes.txt", "vae/other.safetensors"} < names(tmp_path)


def test_a_save_that_fails_leaves_the_model_as_it_was(tmp_path):
    filled(1.0).save_pretrained(tmp_path / "model")
    before = names(tmp_path / "model")
    broken = filled(2.0)
    broken.vae.register_buffer("strange", torch.zeros(2, 2).to_sparse())
    with pytest.raises(Exception):  # noqa: B017 - whatever safetensors says of it
        broken.save_pretrained(tmp_path / "model", max_shard_size=500)
    assert names(tmp_path / "model") == before
    assert (VAEPipeline.from_pretrained(tmp_path / "model").vae.posterior.bias == 1).all()


@pytest.mark.parametrize("room", [0, 100, 1000, 2000])
def test_a_full_disk_leaves_the_model_as_it_was(room, tmp_path):
    filled(1.0).save_pretrained(tmp_path / "model")
    before = names(tmp_path / "model")
    with refused(f"{tmp_path / 'model'} cannot be written: "), full_disk(room):
        filled(2.0).save_pretrained(tmp_path / "model")
    assert names(tmp_path / "model") == before
    assert (VAEPipeline.from_pretrained(tmp_path / "model").vae.posterior.bias == 1).all()


def test_a_name_that_no_folder_can_have(tmp_path):
    with refused("cannot be written: File name too long"):
        filled(1.0).save_pretrained(tmp_path / ("m" * 300))


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "model").write_text("mine")
    with refused("model is a file; give a folder to save to"):
        filled(1.0).save_pretrained(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"


@pytest.mark.parametrize("size", ["5G", "", 0, -1, 1.5, True, "many"])
def test_impossible_sizes_of_shards(size, tmp_path):
    with refused("max_shard_size must be bytes or a word such as '500MB' or '5GB'"):
        filled(1.0).save_pretrained(tmp_path / "model", max_shard_size=size)
    assert not (tmp_path / "model").exists()
