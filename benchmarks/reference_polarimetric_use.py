"""Of what use translated polarimetric images are: a segmenter learns from them before it sees a few real ones.

    python benchmarks/reference_polarimetric_use.py --output_dir runs/reference-polarimetric-use

The protocol of C. Ruffino's thesis, section 3.3, on the rendered scenes of `builtin:polarimetric` at 32x32, with a
segmenter for its detector. There are many labelled RGB images and few labelled polarimetric ones. A segmenter (the
encoder-decoder of `pix2pix`, `--adversarial_weight 0`) is trained on one version of the many, then on the few, and
judged on polarimetric images of test scenes. The versions: RGB as it is; its translation by polarimetric CycleGANs,
without constraints, under the relaxed ones, and with a head that makes only light that exists; for comparison no
images at all, and the polarimetric images that the translations stand for. The translators learn from unlabelled
images of all training scenes, unpaired.

As in the thesis the segmenter sees three channels, here I0, I45 and I90, so that one network takes RGB and
polarisation. Classes: pixels of spheres, of boxes, and of glossy surfaces. AP is the average precision of a class over
all test pixels; ER = ((1 - AP) - (1 - AP_RGB)) / (1 - AP_RGB) is the change of the error relative to RGB, negative
where it falls. What is done is not done again: figures are kept in `results.json`, the table in `table.md`, a picture
in `polarimetric_use.png`.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import Results, train_once
from tables import mean_and_spread
from torch import Tensor

from hf_genmodels import Pix2PixPipeline, PolarimetricPipeline
from hf_genmodels.data.builtin import load_builtin
from hf_genmodels.objectives.pictures import side_by_side
from hf_genmodels.plots import image_grid

DATA = ("builtin:polarimetric", "32")
SIZE, SHOWN = 32, 6
# Channels of the column "masks"; no training scene has a cone.
CLASSES = {"sphere": 0, "box": 1, "glossy": 3}
TRANSLATORS = {
    "no constraints": "--calibration_weight 0 --cone_weight 0",
    "relaxed constraints": "--calibration_weight 0.02 --cone_weight 0.001",
    "cone head": "--output_head cone --intensity_source input --identity_weight 10 --stokes_weight 1 "
    "--discriminator_input stokes --cycle_weight 1",
}
BOUNDS = ("no images", "RGB", "real polarisation")
LOOP = "--log_steps 100 --checkpointing_steps 500"
SEGMENTER = "--adversarial_weight 0 --reconstruction_loss mse --width 16 --num_downs 5 --norm instance --dropout 0"


def columns_of(split: str) -> dict[str, Tensor]:
    """RGB, the four angles, and the masks of the classes, all in [0, 1]."""
    content = load_builtin(*DATA, split)
    rgb, angles, masks = (content.columns[name] for name in ("conditioning_image", "target_image", "masks"))
    chosen = masks[:, list(CLASSES.values())]
    return {"RGB": torch.from_numpy(rgb), "angles": torch.from_numpy(angles), "masks": torch.from_numpy(chosen)}


def train_translator(name: str, seed: int, args: argparse.Namespace) -> Path:
    """Train a CycleGAN from RGB to the four angles, unless that is done."""
    words = ["--dataset_name", DATA[0], "--dataset_config_name", DATA[1]]
    shape = "--width 16 --discriminator_width 16 --num_blocks 6 --train_batch_size 4 --random_flip"
    length = f"--max_train_steps {args.translator_steps} --num_threads {args.threads} --seed {seed}"
    folder = args.output_dir / "translators" / f"{name.replace(' ', '-')}-seed{seed}"
    return train_once("polarimetric", folder, words, shape, length, TRANSLATORS[name], LOOP)


def translated(folder: Path, rgb: Tensor) -> Tensor:
    """The four angles of RGB images, in [0, 1]."""
    pipe = PolarimetricPipeline.from_pretrained(folder)
    return torch.cat([pipe(image=part, output_type="pt").images for part in rgb.split(100)])


def write_pairs(images: Tensor, masks: Tensor, folder: Path) -> None:
    """A data set of images, the first three channels of what is given, and masks."""
    import datasets

    if folder.is_dir():
        return
    shape = (SIZE, SIZE, 3)
    features = datasets.Features(
        conditioning_image=datasets.Array3D(shape, "float32"), target_image=datasets.Array3D(shape, "uint8")
    )
    columns: dict[str, Any] = {
        "conditioning_image": np.ascontiguousarray(images[:, :3].permute(0, 2, 3, 1).numpy()),
        "target_image": np.ascontiguousarray(255 * masks.permute(0, 2, 3, 1).numpy()),
    }
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(columns, features=features).to_parquet(part / "train-00000-of-00001.parquet")
    part.rename(folder)


def train_segmenter(version: str, seed: int, args: argparse.Namespace) -> Path:
    """Train on one version of the many images, then on the few real ones; what is done is not done again."""
    place = args.output_dir / "segmenters" / f"{version.replace(' ', '-')}-seed{seed}"
    if (place / "few" / "metrics.json").is_file():
        return place / "few"
    train = columns_of("train")
    machine = f"--num_threads {args.threads} --seed {seed} --train_batch_size 16"
    start = []
    if version != "no images":
        rgb = train["RGB"][: args.many]
        if version in TRANSLATORS:
            images = translated(train_translator(version, seed, args), rgb)
        else:
            images = rgb if version == "RGB" else train["angles"][: args.many]
        write_pairs(images, train["masks"][: args.many], place / "data")
        words = ["--dataset_name", str(place / "data")]
        length = f"--max_train_steps {args.steps} --learning_rate 1e-3"
        train_once("pix2pix", place / "many", words, SEGMENTER, machine, length, LOOP)
        start = ["--pretrained_model_name_or_path", str(place / "many")]
    few = args.output_dir / "few"
    write_pairs(train["angles"][-args.few :], train["masks"][-args.few :], few)
    words = ["--dataset_name", str(few), *start]
    length = f"--max_train_steps {args.few_steps} --learning_rate 5e-4"
    return train_once("pix2pix", place / "few", words, SEGMENTER, machine, length, LOOP)


def scores_of(folder: Path, angles: Tensor) -> Tensor:
    """What a segmenter makes of polarimetric images, (images, classes, height, width)."""
    pipe = Pix2PixPipeline.from_pretrained(folder)
    return torch.cat([pipe(image=part, output_type="pt").images for part in angles[:, :3].split(100)])


def judge(version: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """AP of each class over the pixels of the test scenes, and their mean."""
    from sklearn.metrics import average_precision_score

    test = columns_of("test")
    scores = scores_of(train_segmenter(version, seed, args), test["angles"])
    values = {
        name: float(average_precision_score(test["masks"][:, channel].flatten(), scores[:, channel].flatten()))
        for channel, name in enumerate(CLASSES)
    }
    return {**values, "mean": sum(values.values()) / len(values)}


def table(figures: dict[str, list[dict[str, float]]]) -> str:
    """AP and the error ratio to RGB of the same seed: mean and standard deviation over the seeds."""
    names = [*CLASSES, "mean"]
    lines = [f"| First learnt from | {' | '.join(f'AP {name} | ER {name}' for name in names)} |"]
    lines.append("|--" * (2 * len(names) + 1) + "|")
    for version, of_seeds in figures.items():
        cells = []
        for name in names:
            ratios = [
                (base[name] - one[name]) / (1 - base[name]) for base, one in zip(figures["RGB"], of_seeds, strict=True)
            ]
            cells.append(mean_and_spread([one[name] for one in of_seeds], ".3f"))
            cells.append("" if version == "RGB" else mean_and_spread(ratios, "+.3f"))
        lines.append(f"| {version} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def picture(args: argparse.Namespace) -> Tensor:
    """RGB and masks of test scenes, and what each segmenter of seed 0 finds: a class in each colour."""
    test = columns_of("test")
    found = [scores_of(train_segmenter(name, 0, args), test["angles"][:SHOWN]) for name in versions()]
    return side_by_side(test["RGB"][:SHOWN], test["masks"][:SHOWN].float(), *found)


def versions() -> list[str]:
    """Of the many labelled images, the worst expected first."""
    return [*BOUNDS[:2], *TRANSLATORS, BOUNDS[2]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--translator_steps", type=int, default=1000)
    parser.add_argument("--many", type=int, default=1000, help="labelled RGB images")
    parser.add_argument("--few", type=int, default=40, help="labelled polarimetric images")
    parser.add_argument("--steps", type=int, default=600, help="of a segmenter, on the many")
    parser.add_argument("--few_steps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = Results(args.output_dir / "results.json", args)
    figures: dict[str, list[dict[str, float]]] = {version: [] for version in versions()}
    for seed in range(args.seeds):
        for version in versions():
            name = f"{version}, seed {seed}"
            figures[version].append(results.get(name, partial(judge, version, seed, args)))
    image_grid(picture(args), columns=1).save(args.output_dir / "polarimetric_use.png")
    lines = table(figures)
    (args.output_dir / "table.md").write_text(lines, encoding="utf-8")
    print(lines)


if __name__ == "__main__":
    main()
