"""What can be learnt of the angle of polarisation from the intensity, on real captures, and what cannot.

    python benchmarks/reference_polarimetric_captures.py --captures FOLDER --output_dir runs/reference-captures

`--captures` is a folder for each scene with `raw_mosaic.png`. Each scene is held out once. Of the others the left
three quarters are trained on: 32x32 patches at scales 1, 2 and 4, drawn by gradient energy
(`data.mosaic.write_patches`); the right quarter is for validation. Test patches are of scale 2; none has a saturated
pixel.

constants   one direction everywhere: horizontal, the best one of the training patches, the best of the test patches
regression  a plain encoder-decoder on pairs (`pix2pix --adversarial_weight 0`): what supervision reaches
paired      `polarimetric` with the cone head and pairs, on the last scene only
unpaired    the same without pairs, on the last scene only
filters     of the scene `polarizer`: how much of its polarised pixels its four round filters hold, and what one
            direction reaches there and elsewhere, over pixels; a filter looks the same whatever its direction

The figure is the error of the angle of polarisation where the reference is polarised by 0.1 or more. What is done is
not done again: figures are kept in `results.json`, the table in `table.md`.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from reference_polarimetric import mean_angle_error
from results import Results, pairs, train_once
from tables import mean_and_spread
from torch import Tensor

from hf_genmodels import Pix2PixPipeline, PolarimetricPipeline
from hf_genmodels.data import DataArguments
from hf_genmodels.data.mosaic import area_averaged, join_mosaic, load_mosaic, write_patches
from hf_genmodels.losses.polarimetry import calibration_matrix, intensities_from_stokes

SIZE, WHITE = 32, 255
LOOP = "--log_steps 50 --checkpointing_steps 250"
REGRESSION = "--adversarial_weight 0 --reconstruction_loss mse --width 16 --num_downs 4 --norm instance --dropout 0"
CYCLEGAN = (
    "--width 16 --discriminator_width 16 --num_blocks 6 --random_flip --output_head cone --intensity_source input"
)
RUNS = {
    "regression": f"{REGRESSION} --train_batch_size 16 --learning_rate 1e-3",
    "paired": f"{CYCLEGAN} --train_batch_size 4 --paired_weight 100 --stokes_weight 1",
    "unpaired": f"{CYCLEGAN} --train_batch_size 4",
}

# Centres (row, column) and radius of the round filters of the scene `polarizer`, in pixels of scale 2.
FILTERS, RADIUS = ((273, 95), (272, 250), (272, 387), (278, 527)), 56


def parts(scene: Path, folder: Path) -> dict[str, Path]:
    """The left three quarters of a capture and the rest, as raw images in files of their own."""
    places = {part: folder / part / f"{scene.parent.name}.npy" for part in ("train", "validation")}
    intensities = load_mosaic(scene)
    cut = 3 * intensities.shape[2] // 4
    for part, columns in (("train", slice(cut)), ("validation", slice(cut, None))):
        places[part].parent.mkdir(parents=True, exist_ok=True)
        np.save(places[part], join_mosaic(intensities[:, :, columns]))
    return places


def write_data(held_out: Path, scenes: list[Path], folder: Path) -> None:
    """The splits train, validation and test of one scene held out."""
    if (folder / "data" / "test" / "metadata.jsonl").is_file():
        return
    raw = [parts(scene, folder / "raw") for scene in scenes if scene != held_out]
    limits = {"size": SIZE, "saturation": WHITE, "max_saturated": 0.0}
    split = folder / "data"
    if not (split / "train" / "metadata.jsonl").is_file():
        files = [places["train"] for places in raw]
        write_patches(files, split / "train", stride=SIZE // 2, scales=(1, 2, 4), number=300, **limits)
    if not (split / "validation" / "metadata.jsonl").is_file():
        write_patches(
            [places["validation"] for places in raw], split / "validation", stride=SIZE, scales=(2,), **limits
        )
    write_patches([held_out], split / "test", stride=SIZE, scales=(2,), **limits)


def everywhere(degrees: float, target: Tensor) -> Tensor:
    """Images whose every pixel is polarised in one direction, by very little."""
    s0 = target.mean(1, keepdim=True) * 2
    angle = torch.tensor(degrees).deg2rad() * 2
    return intensities_from_stokes(
        torch.cat([s0, 0.01 * s0 * angle.cos(), 0.01 * s0 * angle.sin()], 1), calibration_matrix()
    )


def horizontal(data: DataArguments, split: str) -> float:
    """Error if every pixel of a split were polarised horizontally, in degrees."""
    target = pairs(data, split)[1]
    return mean_angle_error(everywhere(0.0, target), target)


def constants(data: DataArguments) -> dict[str, float]:
    """Errors on the test patches of one direction everywhere, and the two that were chosen, in degrees."""
    train, test = (pairs(data, split)[1] for split in ("train", "test"))
    angles = torch.arange(0.0, 180.0, 15.0).tolist()
    best = {
        name: min(angles, key=lambda degrees: mean_angle_error(everywhere(degrees, target), target))
        for name, target in (("training", train), ("test", test))
    }
    errors = {name: mean_angle_error(everywhere(degrees, test), test) for name, degrees in best.items()}
    chosen = {f"{name}, direction": degrees for name, degrees in best.items()}
    return {"horizontal": horizontal(data, "test"), **errors, **chosen}


def filters(capture: Path) -> dict[str, float]:
    """Share of the polarised pixels, and errors in degrees over them, inside the filters and elsewhere."""
    counts = load_mosaic(capture)
    saturated = area_averaged(counts >= WHITE, 2).max(0) > 0
    i0, i45, i90, i135 = area_averaged(counts, 2)
    s0, s1, s2 = i0 + i90, i0 - i90, i45 - i135
    angle = np.rad2deg(np.arctan2(s2, s1)) / 2
    counted = (np.hypot(s1, s2) >= 0.1 * s0) & ~saturated
    rows, columns = np.indices(counted.shape)
    inside = np.min([np.hypot(rows - row, columns - column) for row, column in FILTERS], axis=0) < RADIUS
    figures = {"share of the filters": float(inside[counted].mean())}
    for name, chosen in (("filters", counted & inside), ("elsewhere", counted & ~inside)):
        turned = np.abs(angle[chosen] - np.arange(0, 180, 15)[:, None]) % 180
        errors = np.minimum(turned, 180 - turned).mean(1)
        figures |= {f"{name}, horizontal": float(errors[0]), f"{name}, best constant": float(errors.min())}
    return figures


def judge(run: str, seed: int, folder: Path, data: DataArguments, args: argparse.Namespace) -> dict[str, float]:
    """Train one run, unless that is done; its errors on the validation and on the test patches."""
    family = "pix2pix" if run == "regression" else "polarimetric"
    steps = args.regression_steps if run == "regression" else args.steps
    length = f"--max_train_steps {steps} --num_threads {args.threads} --seed {seed}"
    words = ["--train_data_dir", data.train_data_dir or ""]
    trained = train_once(family, folder / f"{run}-seed{seed}", words, RUNS[run], length, LOOP)
    pipe = (Pix2PixPipeline if run == "regression" else PolarimetricPipeline).from_pretrained(trained)
    errors = {}
    for split in ("validation", "test"):
        source, target = pairs(data, split)
        made = torch.cat([pipe(image=part, output_type="pt").images for part in source.split(100)])
        errors[split] = mean_angle_error(made, target)
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captures", type=Path, required=True, help="folder with a folder for each scene")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--tasks", nargs="+", default=list(RUNS), choices=list(RUNS), help="which runs")
    parser.add_argument("--regression_steps", type=int, default=200)
    parser.add_argument("--steps", type=int, default=500, help="of the CycleGANs")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = Results(args.output_dir / "results.json", args)
    scenes = sorted(args.captures.glob("*/raw_mosaic.png"))
    if len(scenes) < 2:
        sys.exit(
            f"error: {args.captures} holds {len(scenes)} scenes (*/raw_mosaic.png): two are needed, one to test on"
        )
    lines = ["| Held out | Prediction | Validation | Held-out scene |", "|--|--|--|--|"]
    for scene in reversed(scenes):
        name = scene.parent.name
        folder = args.output_dir / name
        write_data(scene, scenes, folder)
        data = DataArguments(train_data_dir=str(folder / "data"))
        of_test = results.get(f"{name}, constants", partial(constants, data))
        of_validation = results.get(f"{name}, horizontal on validation", partial(horizontal, data, "validation"))
        lines.append(f"| {name} | horizontal | {of_validation:.1f} | {of_test['horizontal']:.1f} |")
        lines += [
            f"| {name} | best constant of {kind} patches | | {of_test[kind]:.1f} |" for kind in ("training", "test")
        ]
        for run in args.tasks if scene == scenes[-1] else [run for run in args.tasks if run == "regression"]:
            figures = [
                results.get(f"{name}, {run}, seed {seed}", partial(judge, run, seed, folder, data, args))
                for seed in range(args.seeds)
            ]
            cells = [mean_and_spread([one[split] for one in figures], ".1f") for split in ("validation", "test")]
            lines.append(f"| {name} | {run} | {' | '.join(cells)} |")
    for scene in scenes:
        if scene.parent.name == "polarizer":
            results.get("filters", partial(filters, scene))
    (args.output_dir / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
