"""One fresh process reloads every pipeline that was saved here, and gets the same outputs."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from hf_genmodels.families import FAMILIES
from tests.families import IMAGES_ONLY, TINY
from tests.testing_utils.fresh import run_python
from tests.testing_utils.pipelines import VECTOR_SHAPE, draw, tiny_pipeline

RELOAD = """
import sys
from pathlib import Path
import torch
from hf_genmodels import AutoPipeline
torch.set_num_threads(1)
pipelines = {folder: AutoPipeline.from_pretrained(folder) for folder in sorted(Path(sys.argv[1]).iterdir())}
from safetensors.torch import load_file
from tests.testing_utils.pipelines import draw
for folder, pipeline in pipelines.items():
    pipeline.set_progress_bar_config(disable=True)
    expected = load_file(folder / "expected" / "images.safetensors")["images"]
    torch.testing.assert_close(draw(pipeline, output_type="pt").images, expected, atol=1e-6, rtol=0)
    print(folder.name, type(pipeline).__name__)
"""


def test_every_pipeline_reloads_in_a_fresh_process(tmp_path: Path) -> None:
    pipelines = {name for family in FAMILIES.values() for name in family.pipelines}
    assert set(TINY) == pipelines, "a pipeline that no case file of tests/families builds is not tested"
    names = []
    for name in sorted(TINY):
        for kind, shape in (("image", (1, 8, 8)), ("vector", VECTOR_SHAPE)):
            if kind == "vector" and name in IMAGES_ONLY:
                continue
            pipeline = tiny_pipeline(name, shape)
            folder = tmp_path / f"{name}-{kind}"
            pipeline.save_pretrained(folder)
            (folder / "expected").mkdir()
            save_file({"images": draw(pipeline, output_type="pt").images}, folder / "expected" / "images.safetensors")
            names.append(f"{folder.name} {name}")
    done = run_python("-c", RELOAD, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == names
