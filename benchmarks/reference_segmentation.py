"""Label maps and depths: which loss, which inputs.

    python benchmarks/reference_segmentation.py --nuclei FOLDER --output_dir runs/reference-segmentation

nuclei   microscope images -> background, nucleus and border (2018 Data Science Bowl, `--nuclei`, made smaller to
         128x128), by cross-entropy, Dice's coefficient and both, with and without balanced class weights; beside them
         the mask by L1, cut at 0.5
scenes   `builtin:polarimetric` -> sky, ground, spheres, boxes and walls, from colours, colours and
         polariser angles, colours and depth
depth    the same scenes -> depth, from one grey image, four polariser angles, colours, colours and angles

The border is what a nucleus has of pixels beside another nucleus or the background. All figures are of held-out
images, at the size of a whole one; nuclei are learnt from random crops of 64x64. What is done is not done again:
figures are kept in `results.json`, the tables in `table.md`, pictures in `segmentation.png`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image
from results import Results, seconds_of, train_once
from torch import Tensor

from hf_genmodels import AutoPipeline, LabelMaps, Layout
from hf_genmodels.data import DataArguments, evaluation_batches, load_split
from hf_genmodels.evaluation import evaluate_pipeline
from hf_genmodels.objectives.pictures import in_colors, side_by_side
from hf_genmodels.pipelines.label_map import palette_picture
from hf_genmodels.plots import image_grid, stack_pictures

NUCLEI = LabelMaps(("background", "nucleus", "border"))
SCENE = ("sky", "ground", "sphere", "box", "wall")
COLORS = ((0, 0, 0), (0, 160, 255), (255, 200, 0))
SIZE, SHOWN = 128, 6
NUCLEUS, BORDER = 1, 2
LOOP = "--checkpointing_steps 250 --log_steps 50"
PLAIN = "--width 16 --adversarial_weight 0 --dropout 0 --learning_rate 1e-3"
OF_NUCLEI = f"{PLAIN} --train_batch_size 8 --crop_size 64 --random_flip"
OF_SCENES = f"{PLAIN} --train_batch_size 16"


@dataclass(frozen=True)
class Task:
    """One run.

    Attributes:
        inputs: Columns that are stacked as its input, or the one that is.
        target: Column that it learns.
        options: Of the training script.
        metrics: That it is measured by.
        is_nuclei: Whether the data are the nuclei.
    """

    inputs: tuple[str, ...]
    target: str
    options: str
    metrics: tuple[str, ...]
    is_nuclei: bool = False

    def data(self, args: argparse.Namespace) -> DataArguments:
        """Options of the data."""
        several = len(self.inputs) > 1
        return DataArguments(
            dataset_name=str(args.output_dir / "nuclei") if self.is_nuclei else "builtin:polarimetric",
            conditioning_image_column=self.inputs[0] if not several else "conditioning_image",
            conditioning_image_columns=list(self.inputs) if several else None,
            target_image_column=self.target,
        )


def _nuclei(options: str) -> Task:
    return Task(("image",), "labels", f"{OF_NUCLEI} --target_kind labels {options}", ("miou",), is_nuclei=True)


def _scenes(*inputs: str) -> Task:
    return Task(inputs, "labels", f"{OF_SCENES} --target_kind labels --dice_weight 1", ("miou",))


def _depth(*inputs: str) -> Task:
    return Task(inputs, "depth", OF_SCENES, ("depth",))


TASKS = {
    "nuclei: cross-entropy": _nuclei(""),
    "nuclei: mask by L1": Task(("image",), "mask", OF_NUCLEI, (), is_nuclei=True),
    "nuclei: cross-entropy + Dice": _nuclei("--dice_weight 1"),
    "nuclei: cross-entropy + Dice, balanced": _nuclei("--dice_weight 1 --class_weights balanced"),
    "nuclei: cross-entropy, balanced": _nuclei("--class_weights balanced"),
    "nuclei: Dice": _nuclei("--cross_entropy_weight 0 --dice_weight 1"),
    "depth: colours and angles": _depth("image", "target_image"),
    "scenes: colours": _scenes("image"),
    "scenes: colours and depth": _scenes("image", "depth"),
    "scenes: colours and angles": _scenes("image", "target_image"),
    "depth: grey": _depth("intensity"),
    "depth: angles": _depth("target_image"),
    "depth: colours": _depth("image"),
}


def label_nuclei(instances: np.ndarray) -> np.ndarray:
    """Background 0, inside of nuclei 1 and their border 2 of a map of numbered nuclei, (height, width) uint8."""
    padded = np.pad(instances, 1, mode="edge")
    height, width = instances.shape
    around = [padded[row : row + height, column : column + width] for row in range(3) for column in range(3)]
    is_border = np.any([each != instances for each in around], axis=0)
    return np.where(instances == 0, 0, np.where(is_border, BORDER, NUCLEUS)).astype(np.uint8)


def prepare_nuclei(args: argparse.Namespace) -> None:
    """Write the nuclei with their label maps as a folder of pictures, unless it is there."""
    folder = args.output_dir / "nuclei"
    if (folder / "id2label.json").is_file():
        return
    for split, examples in datasets.load_dataset(args.nuclei).items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        lines = []
        for number, example in enumerate(examples):
            names = {kind: f"{number:04}_{kind}.png" for kind in ("image", "labels", "mask")}
            labels = label_nuclei(np.asarray(example["instances"].resize((SIZE, SIZE), Image.Resampling.NEAREST)))
            example["image"].resize((SIZE, SIZE), Image.Resampling.LANCZOS).save(folder / split / names["image"])
            palette_picture(labels, COLORS).save(folder / split / names["labels"])
            Image.fromarray(np.where(labels > 0, 255, 0).astype(np.uint8)).save(folder / split / names["mask"])
            others = {f"{kind}_file_name": name for kind, name in names.items() if kind != "image"}
            lines.append(json.dumps({"file_name": names["image"], **others}))
        (folder / split / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "id2label.json").write_text(json.dumps(dict(enumerate(NUCLEI.names or ()))), encoding="utf-8")


def train_task(name: str, task: Task, args: argparse.Namespace) -> Path:
    """Train one run, unless that is done."""
    data = task.data(args)
    inputs = ["--conditioning_image_column", *task.inputs]
    if len(task.inputs) > 1:
        inputs[0] += "s"
    words = ["--dataset_name", data.dataset_name or "", *inputs, "--target_image_column", task.target]
    length = f"--max_train_steps {args.steps} --num_threads {args.threads} --seed 0"
    folder = args.output_dir / "".join(letter if letter.isalnum() else "-" for letter in name)
    return train_once("pix2pix", folder, words, length, task.options, LOOP)


def judge(folder: Path, task: Task, args: argparse.Namespace) -> dict[str, float]:
    """Figures of the test split."""
    pipe = AutoPipeline.from_pretrained(folder)
    figures = {"seconds": seconds_of(folder)}
    if task.metrics:
        found = evaluate_pipeline(
            pipe,
            task.data(args),
            split="test",
            metrics=task.metrics,
            num_samples=1000,
            batch_size=32,
            extractor=None,
            seed=0,
            progress=False,
        )
        figures |= {each["name"]: each["value"] for each in found}
    if task.is_nuclei:
        source, target = test_images(task, args)
        made = pipe(source, output_type="pt").images
        made, target = (each > (0 if task.metrics else 0.5) for each in (made, target))
        figures["IoU of the mask, per image"] = mean_iou(made.flatten(1), target.flatten(1))
    return figures


def test_images(task: Task, args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Test images in [0, 1], and their targets: the same, or label maps."""
    maps = LabelMaps() if "labels" in task.options else None
    (batch,) = evaluation_batches(
        load_split(task.data(args), "test", Layout("pair", label_maps=maps)), batch_size=1000
    )
    target = batch["target_image"]
    return (batch["conditioning_image"] + 1) / 2, (target + 1) / 2 if maps is None else target[:, 0]


def mean_iou(ours: Tensor, theirs: Tensor) -> float:
    """Mean over images of intersection over union of two sets of pixels, (images, pixels) each."""
    union = (ours | theirs).sum(1)
    share = (ours & theirs).sum(1) / union.clamp(min=1)
    return torch.where(union > 0, share, torch.ones_like(share)).mean().item()


def picture(folder: Path, task: Task, args: argparse.Namespace) -> Tensor:
    """Test images, what was made of them, and their targets."""
    source, target = (side[:SHOWN] for side in test_images(task, args))
    pipe = AutoPipeline.from_pretrained(folder)
    made = pipe(source, output_type="pt").images
    if "labels" in task.options:
        made, target = (in_colors(each, pipe.config.label_colors) for each in (made, target))
    shown = source[:, :3] if source.shape[1] > 2 else source[:, :1]
    if "nuclei" in folder.name:
        shown = shown / shown.amax((1, 2, 3), keepdim=True)
    return side_by_side(shown, made, target)


def table(figures: dict[str, dict[str, float]], of: str, columns: Sequence[str]) -> str:
    """One line for each run of a kind."""
    lines = [f"| Run | {' | '.join(columns)} |", "|--" * (len(columns) + 1) + "|"]
    for name, values in figures.items():
        kind, _, rest = name.partition(": ")
        if kind == of:
            lines.append(f"| {rest} | {' | '.join(f'{values[c]:.4g}' if c in values else '' for c in columns)} |")
    return "\n".join(lines) + "\n"


COLUMNS = {
    "nuclei": (
        "mean IoU",
        *(f"IoU {name}" for name in NUCLEI.names or ()),
        "mean Dice",
        "pixel accuracy",
        "IoU of the mask, per image",
        "seconds",
    ),
    "scenes": ("mean IoU", *(f"IoU {name}" for name in SCENE), "pixel accuracy", "seconds"),
    "depth": ("abs rel", "RMSE", "log RMSE", "delta 1.25^1", "delta 1.25^2", "delta 1.25^3", "seconds"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nuclei", required=True, help="data set with the columns image and instances")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000, help="of every run")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    prepare_nuclei(args)
    results = Results(args.output_dir / "results.json", args)
    figures, pictures = {}, {}
    for name in args.tasks:
        task = TASKS[name]
        folder = train_task(name, task, args)
        figures[name] = results.get(name, partial(judge, folder, task, args))
        pictures[name] = image_grid(picture(folder, task, args), columns=3)
    stack_pictures(pictures).save(args.output_dir / "segmentation.png")
    text = "\n".join(table(figures, kind, columns) for kind, columns in COLUMNS.items())
    (args.output_dir / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
