"""Pix2Pix on rendered and on real pairs, each beside the best prediction that looks at no image.

    python benchmarks/reference_pix2pix.py --nuclei FOLDER --output_dir runs/reference-pix2pix

edges    outlines -> coloured shapes (`builtin:edges`), conditional GAN + 100 L1
nuclei   microscope images -> masks of their nuclei, and masks -> images (2018 Data Science Bowl, `--nuclei`)
depth    one grey image -> depth (`builtin:polarimetric`), and the four polariser angles -> depth (fusion): plain
         encoder-decoders, `--adversarial_weight 0`

All figures are of held-out images at the run's size, in [0, 1]. The constant is the training targets' median, pixel by
pixel: no other picture has a smaller mean absolute error to them. Mean IoU is of masks cut at 0.5, per image. What is
done is not done again: figures are kept in `results.json`, the table in `table.md`, pictures in `pix2pix.png`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from results import Results, pairs, seconds_of, train_once
from torch import Tensor

from hf_genmodels import Pix2PixPipeline
from hf_genmodels.data import DataArguments
from hf_genmodels.metrics.reconstruction import psnr
from hf_genmodels.objectives.pictures import side_by_side
from hf_genmodels.plots import image_grid, stack_pictures

SHOWN = 8
LOOP = "--checkpointing_steps 250 --log_steps 50"


@dataclass(frozen=True)
class Task:
    """Which column becomes which, and how that is learnt.

    Attributes:
        dataset: Name of the data set; None for `--nuclei`.
        source: Column that is translated.
        target: Column it is translated to.
        options: Of the training script.
        steps: Of training.
        resolution: Size that the images are made smaller to; None leaves them as they are.
        masks: Whether the targets are masks.
    """

    dataset: str | None
    source: str
    target: str
    options: str
    steps: int
    resolution: int | None = None
    masks: bool = False

    def data(self, nuclei: str) -> DataArguments:
        """Options of the data."""
        return DataArguments(
            dataset_name=self.dataset or nuclei,
            conditioning_image_column=self.source,
            target_image_column=self.target,
            resolution=self.resolution,
        )


GAN = "--width 16 --discriminator_width 16 --train_batch_size 8"
# Patches of 70 pixels miss half of the constant's error: see the card.
SMALL = "--receptive_field 16 --dropout 0 --learning_rate 1e-3"
PLAIN = "--width 16 --adversarial_weight 0 --dropout 0 --learning_rate 1e-3 --train_batch_size"
TASKS = {
    "edges: outlines to shapes": Task("builtin:edges", "conditioning_image", "target_image", f"{GAN} {SMALL}", 2000),
    "nuclei: image to mask": Task(None, "image", "mask", f"{PLAIN} 8 --random_flip", 1500, 128, masks=True),
    "nuclei: mask to image": Task(None, "mask", "image", f"{GAN} --random_flip", 1000, 64),
    "depth of one image": Task("builtin:polarimetric", "intensity", "depth", f"{PLAIN} 16", 1000),
    "depth of four angles": Task("builtin:polarimetric", "target_image", "depth", f"{PLAIN} 16", 1000),
}


def train_task(name: str, task: Task, args: argparse.Namespace) -> Path:
    """Train one run, unless that is done."""
    data = task.data(args.nuclei)
    words = ["--dataset_name", data.dataset_name or ""]
    words += ["--conditioning_image_column", task.source, "--target_image_column", task.target]
    words += [] if data.resolution is None else ["--resolution", str(data.resolution)]
    steps = args.steps or task.steps
    length = f"--max_train_steps {steps} --num_threads {args.threads} --seed 0"
    folder = args.output_dir / name.replace(":", "").replace(" ", "-")
    return train_once("pix2pix", folder, words, length, task.options, LOOP)


def judge(folder: Path, task: Task, args: argparse.Namespace) -> dict[str, float]:
    """Errors of translations of the test split, and of the constant."""
    data = task.data(args.nuclei)
    source, target = pairs(data, "test")
    constant = pairs(data, "train")[1].median(0).values.expand_as(target)
    pipe = Pix2PixPipeline.from_pretrained(folder)
    made = torch.cat([pipe(image=part, output_type="pt").images for part in source.split(100)])
    figures = {
        "L1": (made - target).abs().mean().item(),
        "L1 of the constant": (constant - target).abs().mean().item(),
        "PSNR": psnr(target, made).mean().item(),
        "seconds": seconds_of(folder),
    }
    return figures | ({"IoU": mean_iou(made, target)} if task.masks else {})


def mean_iou(made: Tensor, target: Tensor) -> float:
    """Mean over images of intersection over union, of what is above 0.5."""
    ours, theirs = made > 0.5, target > 0.5
    union = (ours | theirs).flatten(1).sum(1)
    share = (ours & theirs).flatten(1).sum(1) / union.clamp(min=1)
    return torch.where(union > 0, share, torch.ones_like(share)).mean().item()


def picture(folder: Path, task: Task, args: argparse.Namespace) -> Tensor:
    """Test images, their translations and their targets."""
    source, target = (side[:SHOWN] for side in pairs(task.data(args.nuclei), "test"))
    made = Pix2PixPipeline.from_pretrained(folder)(image=source, output_type="pt").images
    return side_by_side(source, made, target)


def table(figures: dict[str, dict[str, float]]) -> str:
    """One line a task."""
    columns = ("L1", "L1 of the constant", "PSNR", "IoU", "seconds")
    lines: Sequence[str] = [f"| Task | {' | '.join(columns)} | L1 / constant's |", "|--" * (len(columns) + 2) + "|"]
    for name, values in figures.items():
        cells = [f"{values[column]:.4g}" if column in values else "" for column in columns]
        ratio = values["L1"] / values["L1 of the constant"]
        lines = [*lines, f"| {name} | {' | '.join(cells)} | {ratio:.3f} |"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nuclei", required=True, help="data set with the columns image and mask")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="of every task, instead of its own number")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = Results(args.output_dir / "results.json", args)
    figures, pictures = {}, {}
    for name in args.tasks:
        task = TASKS[name]
        folder = train_task(name, task, args)
        figures[name] = results.get(name, partial(judge, folder, task, args))
        pictures[name] = image_grid(picture(folder, task, args), columns=4)
    stack_pictures(pictures).save(args.output_dir / "pix2pix.png")
    lines = table(figures)
    (args.output_dir / "table.md").write_text(lines, encoding="utf-8")
    print(lines)


if __name__ == "__main__":
    main()
