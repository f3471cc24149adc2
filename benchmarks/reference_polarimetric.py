"""Polarimetric CycleGAN with and without the laws of physics, on rendered scenes and on real captures.

    python benchmarks/reference_polarimetric.py --captures FOLDER --output_dir runs/reference-polarimetric

rendered  RGB -> four angles, unpaired, on `builtin:polarimetric` at 32x32; the test scenes are of cones, which no
          training scene has
captures  intensity -> four angles, unpaired, on 32x32 patches (every second pixel) of real captures (`--captures`, a
          folder for each scene with `raw_mosaic.png`); the last scene is held out

Runs of the same seeds and steps: a plain CycleGAN (mu = nu = 0), and one with mu C1 + nu C2. The thesis has mu = nu =
1 and trains for a million steps; in 2,000 these weights leave the adversarial loss no say (at the end the
discriminator knows every translation from data), so they are smaller here. For each run: C1, the mean relative
residual of y = A B y; C2, the mean share of violating pixels; FID in the codes of an autoencoder of the training
set's angles; PSNR of the angles and error of the angle of polarisation (where the reference is polarised by 0.1 or
more) to the same scenes' own images; all of these again with `project=True`. Beside them: the error if every pixel
were polarised horizontally, and C1 and C2 of the test images themselves. What is done is not done again: figures are
kept in `results.json`, tables in `table.md`, pictures in `polarimetric.png`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from results import Results, pairs, train_once
from tables import mean_and_spread
from torch import Tensor

from hf_genmodels import AutoencoderPipeline, PolarimetricPipeline
from hf_genmodels.data import DataArguments
from hf_genmodels.data.mosaic import patches, saturated_share, split_mosaic
from hf_genmodels.losses.polarimetry import calibration_matrix, left_inverse, stokes_vector
from hf_genmodels.metrics.distribution import frechet_distance_from_features
from hf_genmodels.metrics.polarimetry import angle_error, c1_residual, c2_violation_rate
from hf_genmodels.metrics.reconstruction import psnr
from hf_genmodels.objectives.pictures import side_by_side
from hf_genmodels.plots import image_grid, polarization_picture, stack_pictures

SIZE, SHOWN = 32, 8
RUNS = {
    "CycleGAN": "--calibration_weight 0 --cone_weight 0",
    "constrained": "--calibration_weight {mu} --cone_weight {nu}",
}
LOOP = "--log_steps 100 --checkpointing_steps 500"
ENCODER = "--latent_dim 32 --block_out_channels 16 32 --train_batch_size 64 --learning_rate 1e-3"


@dataclass(frozen=True)
class Study:
    """One data set and the runs on it.

    Attributes:
        name: Of its folder.
        args: The command line.
        data: Options of the data: pairs, of which the training sees both sides unpaired.
        words: The same for the training script.
    """

    name: str
    args: argparse.Namespace
    data: DataArguments
    words: list[str]

    @property
    def folder(self) -> Path:
        """Where its runs are."""
        place: Path = self.args.output_dir / self.name
        return place

    def train(self, run: str, seed: int) -> Path:
        """Train one run, unless that is done."""
        args = self.args
        shape = f"--width {args.width} --discriminator_width {args.width} --num_blocks {args.num_blocks}"
        length = f"--max_train_steps {args.steps} --seed {seed}"
        machine = f"--train_batch_size {args.batch_size} --num_threads {args.threads} --random_flip"
        weights = RUNS[run].format(mu=args.mu, nu=args.nu)
        folder = self.folder / f"{run}-seed{seed}"
        return train_once("polarimetric", folder, self.words, shape, length, machine, weights, LOOP)

    def encoder(self) -> AutoencoderPipeline:
        """An autoencoder of the training set's angles, whose codes FID compares."""
        args = self.args
        data = ["--dataset_name", self.data.dataset_name or "", "--image_column", "target_image"]
        if self.data.dataset_config_name is not None:
            data += ["--dataset_config_name", self.data.dataset_config_name]
        length = f"--max_train_steps {args.encoder_steps} --num_threads {args.threads} --seed 0"
        return AutoencoderPipeline.from_pretrained(
            train_once("autoencoder", self.folder / "encoder", data, length, ENCODER, LOOP)
        )

    def judge(self, folder: Path, encoder: AutoencoderPipeline) -> dict[str, dict[str, float]]:
        """Figures of a run's translations of the test split, as they are and projected."""
        source, target = pairs(self.data, "test")
        pipe = PolarimetricPipeline.from_pretrained(folder)
        figures = {}
        for name, project in (("plain", False), ("projected", True)):
            outputs = [pipe(image=part, project=project, output_type="pt") for part in source.split(100)]
            made = torch.cat([output.images for output in outputs])
            violations = {key: torch.cat([output.violations[key] for output in outputs]) for key in ("C1", "C2")}
            figures[name] = {
                **{key: values.mean().item() for key, values in violations.items()},
                "FID": frechet_distance_from_features(encoder.encode(target), encoder.encode(made)),
                "PSNR": psnr(target, made).mean().item(),
                "AoLP error": mean_angle_error(made, target),
            }
        return figures

    def run(self, results: Results) -> tuple[str, Image.Image]:
        """Train and judge everything: the table, and the picture of the first seed's runs."""
        encoder = self.encoder()
        figures: dict[str, list[dict[str, dict[str, float]]]] = {run: [] for run in RUNS}
        for seed in range(self.args.seeds):
            for run in RUNS:
                folder = self.train(run, seed)
                measure = partial(self.judge, folder, encoder)
                figures[run].append(results.get(f"{self.name}, {run}, seed {seed}", measure))
        target = pairs(self.data, "test")[1]
        horizontal = results.get(
            f"{self.name}, horizontal", lambda: mean_angle_error(horizontal_everywhere(target), target)
        )
        real = results.get(f"{self.name}, test images", lambda: mean_violations(target))
        grids = {f"{self.name}: {run}": image_grid(self.picture(run), columns=2) for run in RUNS}
        lines = f"{self.name}\n\n{table(figures)}\nhorizontal everywhere: {horizontal:.3g} degrees\n"
        lines += f"the test images themselves: C1 {real['C1']:.3g}, C2 {real['C2']:.3g}\n"
        return lines, stack_pictures(grids)

    def picture(self, run: str) -> Tensor:
        """Test images, the polarisation of their translations, that made admissible, and the real one."""
        source, target = (side[:SHOWN] for side in pairs(self.data, "test"))
        pipe = PolarimetricPipeline.from_pretrained(self.folder / f"{run}-seed0")
        made, projected = (pipe(image=source, project=project, output_type="pt") for project in (False, True))
        real = polarization_picture(stokes_vector(target, ideal_inverse()))
        return side_by_side(source, made.images, made.picture, projected.picture, real)


def ideal_inverse() -> Tensor:
    """B of an ideal camera."""
    return left_inverse(calibration_matrix())


def mean_angle_error(made: Tensor, target: Tensor) -> float:
    """Degrees, over the images that have polarised pixels."""
    errors = angle_error(stokes_vector(made, ideal_inverse()), stokes_vector(target, ideal_inverse()))
    return errors.nanmean().item()


def mean_violations(target: Tensor) -> dict[str, float]:
    """C1 and C2 of images, as of translations."""
    inverse = ideal_inverse()
    residuals = c1_residual(target, calibration_matrix(), inverse)
    return {"C1": residuals.mean().item(), "C2": c2_violation_rate(target, inverse).mean().item()}


def horizontal_everywhere(target: Tensor) -> Tensor:
    """Images whose every pixel is polarised horizontally, by very little."""
    mean = target.mean(1, keepdim=True)
    return torch.cat([1.01 * mean, mean, 0.99 * mean, mean], 1)


def table(figures: dict[str, list[dict[str, dict[str, float]]]]) -> str:
    """Mean and standard deviation over the seeds."""
    columns = list(next(iter(figures.values()))[0]["plain"])
    lines = [f"| Run | {' | '.join(columns)} |", "|--" * (len(columns) + 1) + "|"]
    for run, of_seeds in figures.items():
        for kind in ("plain", "projected"):
            cells = [mean_and_spread([of_seed[kind][column] for of_seed in of_seeds]) for column in columns]
            lines.append(f"| {run}{', projected' if kind == 'projected' else ''} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_captures(captures: Path, folder: Path) -> None:
    """Patches of real captures as a data set of pairs: all scenes but the last are `train`, that one is `test`."""
    import datasets

    part = folder.with_name(folder.name + ".part")
    scenes = sorted(path.parent for path in captures.glob("*/raw_mosaic.png"))
    if len(scenes) < 2:
        sys.exit(f"error: {captures} holds {len(scenes)} scenes (*/raw_mosaic.png): two are needed, one to test on")
    for split, chosen in (("train", scenes[:-1]), ("test", scenes[-1:])):
        angles = []
        for scene in chosen:
            image = split_mosaic(np.asarray(Image.open(scene / "raw_mosaic.png")))[:, ::2, ::2]
            cut = np.stack(list(patches(image, SIZE, SIZE)))
            angles.append(cut[[saturated_share(patch, 255) == 0 for patch in cut]])
        target = np.concatenate(angles).transpose(0, 2, 3, 1)
        source = target.astype(np.float32).mean(3).round().astype(np.uint8)
        features = datasets.Features(
            conditioning_image=datasets.Array2D((SIZE, SIZE), "uint8"),
            target_image=datasets.Array3D((SIZE, SIZE, 4), "uint8"),
        )
        columns: dict[str, Any] = {"conditioning_image": source, "target_image": target}
        part.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(columns, features=features).to_parquet(part / f"{split}-00000-of-00001.parquet")
    part.rename(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captures", type=Path, help="folder with a folder for each scene; without it, rendered only")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--encoder_steps", type=int, default=500)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--num_blocks", type=int, default=6)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--mu", type=float, default=0.02, help="weight of C1")
    parser.add_argument("--nu", type=float, default=1e-3, help="weight of C2")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = Results(args.output_dir / "results.json", args)
    rendered = DataArguments(dataset_name="builtin:polarimetric", dataset_config_name="unseen-32")
    words = ["--dataset_name", "builtin:polarimetric", "--dataset_config_name", "unseen-32"]
    studies = [Study("rendered", args, rendered, words)]
    if args.captures is not None:
        folder = args.output_dir / "captures" / "data"
        if not folder.is_dir():
            write_captures(args.captures, folder)
        studies.append(
            Study("captures", args, DataArguments(dataset_name=str(folder)), ["--dataset_name", str(folder)])
        )
    tables, pictures = [], []
    for study in studies:
        lines, grid = study.run(results)
        tables.append(lines)
        pictures.append(grid)
    stack_pictures({study.name: grid for study, grid in zip(studies, pictures, strict=True)}).save(
        args.output_dir / "polarimetric.png"
    )
    (args.output_dir / "table.md").write_text("\n".join(tables), encoding="utf-8")
    print("\n".join(tables))


if __name__ == "__main__":
    main()
