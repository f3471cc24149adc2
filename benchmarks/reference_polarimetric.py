"""Polarimetric CycleGAN with and without the laws of physics, on rendered scenes and on real captures.

    python benchmarks/reference_polarimetric.py --captures FOLDER --output_dir runs/reference-polarimetric

rendered  RGB -> four angles, unpaired, on `builtin:polarimetric` at 32x32; the test scenes are of cones, which no
          training scene has
captures  intensity -> four angles, unpaired, on 32x32 patches (every second pixel) of real captures (`--captures`, a
          folder for each scene with `raw_mosaic.png`); the last scene is held out

Runs of the same seeds and steps, all unpaired but the last: a plain CycleGAN (mu = nu = 0); one with mu C1 + nu C2;
one whose head makes only light that exists ("cone"); that with the brightness of its input ("cone, input"); that with
the identity loss and a discriminator of Stokes vectors ("cone, input, identity"); and pairs ("cone, input, paired").
The thesis has mu = nu = 1 and trains for a million steps; in 2,000 these weights leave the adversarial loss no say (at
the end the discriminator knows every translation from data), so they are smaller here. `--validate` trains the rows of
`TRIALS`, shortly, on the first 1,800 training scenes and judges them on the other 200: by these the options of the
cone runs were chosen.

For each run: C1, the mean relative
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
from hf_genmodels.data.builtin import load_builtin
from hf_genmodels.data.mosaic import patches, saturated_share, split_mosaic
from hf_genmodels.losses.polarimetry import calibration_matrix, left_inverse, stokes_vector
from hf_genmodels.metrics.distribution import frechet_distance_from_features
from hf_genmodels.metrics.polarimetry import angle_error, c1_residual, c2_violation_rate, dolp_error
from hf_genmodels.metrics.reconstruction import psnr
from hf_genmodels.objectives.pictures import side_by_side
from hf_genmodels.plots import image_grid, polarization_picture, stack_pictures

SIZE, SHOWN = 32, 8
IDENTITY = "--identity_weight 10 --stokes_weight 1 --discriminator_input stokes --cycle_weight 1"
RUNS = {
    "CycleGAN": "--calibration_weight 0 --cone_weight 0",
    "constrained": "--calibration_weight {mu} --cone_weight {nu}",
    "cone": "--output_head cone",
    "cone, input": "--output_head cone --intensity_source input",
    "cone, input, identity": f"--output_head cone --intensity_source input {IDENTITY}",
    "cone, input, paired": "--output_head cone --intensity_source input --paired_weight 100 --stokes_weight 1",
}
# On captures, where the source is the brightness of the target itself, the last two would be one.
OF_CAPTURES = ("CycleGAN", "constrained", "cone", "cone, input")
TRIALS = {
    "cone, input": RUNS["cone, input"],
    "weak identity, strong cycle": "--output_head cone --intensity_source input --identity_weight 5 "
    "--discriminator_input stokes",
    "the chosen ones": RUNS["cone, input, identity"],
    "paired, intensities alone": "--output_head cone --intensity_source input --paired_weight 100",
    "paired": RUNS["cone, input, paired"],
}
TRIAL_SEED, HELD_OUT = 100, 200
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
        runs: Options of its runs by name.
    """

    name: str
    args: argparse.Namespace
    data: DataArguments
    words: list[str]
    runs: dict[str, str]

    @property
    def folder(self) -> Path:
        """Where its runs are."""
        place: Path = self.args.output_dir / self.name
        return place

    @property
    def steps(self) -> int:
        """Of a run."""
        steps: int = self.args.trial_steps if self.args.validate else self.args.steps
        return steps

    def train(self, run: str, seed: int) -> Path:
        """Train one run, unless that is done."""
        args = self.args
        shape = f"--width {args.width} --discriminator_width {args.width} --num_blocks {args.num_blocks}"
        length = f"--max_train_steps {self.steps} --seed {seed}"
        machine = f"--train_batch_size {args.batch_size} --num_threads {args.threads} --random_flip"
        weights = self.runs[run].format(mu=args.mu, nu=args.nu)
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
        is_cone = pipe.generator_ab.config.output_head == "cone"
        for name, project in (("plain", False),) if is_cone else (("plain", False), ("projected", True)):
            outputs = [pipe(image=part, project=project, output_type="pt") for part in source.split(100)]
            made = torch.cat([output.images for output in outputs])
            violations = {key: torch.cat([output.violations[key] for output in outputs]) for key in ("C1", "C2")}
            figures[name] = {
                **{key: values.mean().item() for key, values in violations.items()},
                "FID": frechet_distance_from_features(encoder.encode(target), encoder.encode(made)),
                "PSNR": psnr(target, made).mean().item(),
                "AoLP error": mean_angle_error(made, target),
                "DoLP error": mean_degree_error(made, target),
            }
        return figures

    def run(self, results: Results) -> tuple[str, Image.Image]:
        """Train and judge everything: the table, and the picture of the first seed's runs."""
        encoder = self.encoder()
        figures: dict[str, list[dict[str, dict[str, float]]]] = {run: [] for run in self.runs}
        first = TRIAL_SEED if self.args.validate else 0
        for seed in range(first, first + self.args.seeds):
            for run in self.runs:
                folder = self.train(run, seed)
                measure = partial(self.judge, folder, encoder)
                figures[run].append(results.get(f"{self.name}, {run}, seed {seed}", measure))
        target = pairs(self.data, "test")[1]
        horizontal = results.get(
            f"{self.name}, horizontal", lambda: mean_angle_error(horizontal_everywhere(target), target)
        )
        real = results.get(f"{self.name}, test images", lambda: mean_violations(target))
        grids = {f"{self.name}: {run}": image_grid(self.picture(run), columns=2) for run in self.runs}
        lines = f"{self.name}\n\n{table(figures)}\nhorizontal everywhere: {horizontal:.3g} degrees\n"
        lines += f"the test images themselves: C1 {real['C1']:.3g}, C2 {real['C2']:.3g}\n"
        return lines, stack_pictures(grids)

    def picture(self, run: str) -> Tensor:
        """Test images, the polarisation of their translations, that made admissible, and the real one."""
        source, target = (side[:SHOWN] for side in pairs(self.data, "test"))
        pipe = PolarimetricPipeline.from_pretrained(
            self.folder / f"{run}-seed{TRIAL_SEED if self.args.validate else 0}"
        )
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


def mean_degree_error(made: Tensor, target: Tensor) -> float:
    """Of the degree of polarisation, in [0, 1], over all pixels."""
    errors = dolp_error(stokes_vector(made, ideal_inverse()), stokes_vector(target, ideal_inverse()))
    return errors.mean().item()


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
        for kind in of_seeds[0]:
            cells = [mean_and_spread([of_seed[kind][column] for of_seed in of_seeds]) for column in columns]
            lines.append(f"| {run}{', projected' if kind == 'projected' else ''} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_held_out(folder: Path) -> None:
    """The rendered training scenes as a data set of pairs, of which the last are held out as `test`."""
    import datasets

    part = folder.with_name(folder.name + ".part")
    scenes = load_builtin("builtin:polarimetric", "unseen-32", "train").columns
    names = {"conditioning_image": 3, "target_image": 4}
    features = datasets.Features(
        {name: datasets.Array3D((SIZE, SIZE, channels), "float32") for name, channels in names.items()}
    )
    part.mkdir(parents=True, exist_ok=True)
    for split, chosen in (("train", slice(None, -HELD_OUT)), ("test", slice(-HELD_OUT, None))):
        columns: dict[str, Any] = {name: scenes[name][chosen].transpose(0, 2, 3, 1) for name in names}
        datasets.Dataset.from_dict(columns, features=features).to_parquet(part / f"{split}-00000-of-00001.parquet")
    part.rename(folder)


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


def studies(args: argparse.Namespace) -> list[Study]:
    """What the command line asks for, with the data it needs."""
    if args.validate:
        folder = args.output_dir / "validation" / "data"
        if not folder.is_dir():
            write_held_out(folder)
        data = DataArguments(dataset_name=str(folder))
        return [Study("validation", args, data, ["--dataset_name", str(folder)], named(TRIALS, args.runs))]
    rendered = DataArguments(dataset_name="builtin:polarimetric", dataset_config_name="unseen-32")
    words = ["--dataset_name", "builtin:polarimetric", "--dataset_config_name", "unseen-32"]
    found = [Study("rendered", args, rendered, words, named(RUNS, args.runs))]
    if args.captures is not None:
        folder = args.output_dir / "captures" / "data"
        if not folder.is_dir():
            write_captures(args.captures, folder)
        data, runs = DataArguments(dataset_name=str(folder)), {run: RUNS[run] for run in OF_CAPTURES}
        found.append(Study("captures", args, data, ["--dataset_name", str(folder)], named(runs, args.runs)))
    return found


def named(runs: dict[str, str], names: list[str] | None) -> dict[str, str]:
    """Those of these names, all by default."""
    return runs if names is None else {name: options for name, options in runs.items() if name in names}


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
    parser.add_argument("--runs", nargs="+", choices=sorted({*RUNS, *TRIALS}), help="only these")
    parser.add_argument("--validate", action="store_true", help="the trials by which options were chosen")
    parser.add_argument("--trial_steps", type=int, default=300)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = Results(args.output_dir / ("trials.json" if args.validate else "results.json"), args)
    tables, pictures = [], []
    chosen = studies(args)
    for study in chosen:
        lines, grid = study.run(results)
        tables.append(lines)
        pictures.append(grid)
    name = "trials" if args.validate else "polarimetric"
    stack_pictures({study.name: grid for study, grid in zip(chosen, pictures, strict=True)}).save(
        args.output_dir / f"{name}.png"
    )
    (args.output_dir / ("trials.md" if args.validate else "table.md")).write_text("\n".join(tables), encoding="utf-8")
    print("\n".join(tables))


if __name__ == "__main__":
    main()
