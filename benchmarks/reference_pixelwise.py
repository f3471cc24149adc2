"""Images from 0.5 % known pixels on Fashion-MNIST at 32x32: how lambda trades fidelity for the constraints.

    python benchmarks/reference_pixelwise.py --dataset_name FOLDER --extractor runs/reference-classifier-32 \
        --output_dir runs/reference-pixelwise

For each seed: a run for each lambda, the CGAN baseline (whose discriminator sees the known pixels), and an
unconditional GAN (DCGAN) of the same width, packing and discriminator, with whose spread over z theirs is compared.
The maps are of test images. MSE and satisfied share (squared error below 0.1) are on the scale of [-1, 1]; FID
compares the features of its own classifier, of all test images and of 1,000 samples, one for each map of as many test
images; the spread is the standard deviation of a pixel over 16 samples of one map, mean over pixels and 64 maps.
`--variants` compares the generators and the error models instead, in a folder of their own, each with the weight that
is lambda 10 for small errors of a middle grey. `--texture` repeats the first study on patches of a brick wall, 64x64,
with HOG and LBP chi-square distances in place of FID.
What is done is not done again: results are kept in `results.json`, tables in `table.md`, pictures in `pixelwise.png`.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from results import Results, train_once
from tables import mean_and_spread
from torch import Tensor

from hf_genmodels import GANPipeline, PixelwisePipeline
from hf_genmodels.data import DataArguments, evaluation_batches, load_split
from hf_genmodels.losses.constraints import sample_mask
from hf_genmodels.metrics.constraints import constraint_errors, satisfied_share, spread
from hf_genmodels.metrics.distribution import frechet_distance_from_features
from hf_genmodels.metrics.extractors import load_extractor
from hf_genmodels.metrics.texture import hog_distance, lbp_distance
from hf_genmodels.plots import constraint_picture, image_grid, stack_pictures

KNOWN_PIXELS, PACKING, SEED = 0.005, 2, 0
NUM_SAMPLES, BATCH, NUM_MAPS, SAMPLES_OF_MAP, SHOWN = 1000, 100, 64, 16, 8
LAMBDAS = (0.01, 0.1, 1.0, 3.0, 10.0, 100.0, 1000.0)
# the other generators and error models, see `docs/pixelwise.md`. Near a middle grey a squared error e on [-1, 1] costs
# peak / 4 * e nats under Poisson noise and (concentration + 1) / 2 * e under a Beta; |e| is 0.1 at 10 * e^2 = 0.1.
VARIANTS = {
    "unet_res": "--constraint_weight 10",
    "unet_res, best": "--constraint_weight 10 --validation_size 2000 --save_best fid mse --save_best_steps 200 "
    "--save_best_samples 1000",
    "up_dil": "--architecture up_dil --constraint_weight 10",
    "up_encdec": "--architecture up_encdec --constraint_weight 10",
    "unet": "--architecture unet --constraint_weight 10",
    "res": "--architecture res --num_residual_blocks 4 --constraint_weight 10",
    "laplacian": "--constraint_noise laplacian --constraint_weight 1",
    "poisson": "--constraint_noise poisson --constraint_weight 0.16",
    "beta": "--constraint_noise beta --constraint_weight 0.2",
}
LOOP = "--log_steps 100 --checkpointing_steps 500 --use_ema"
DISCRIMINATOR = f"--discriminator_norm instance --packing {PACKING}"


@dataclass
class Study:
    """One data set, its runs and how their samples are judged.

    Attributes:
        args: The command line.
        data: Options of the data set for the training scripts.
        texture: Judge samples as textures instead of by FID.
    """

    args: argparse.Namespace
    data: DataArguments
    texture: bool

    @property
    def folder(self) -> Path:
        """Where everything of this data set is."""
        place: Path = self.args.output_dir
        if self.texture or self.args.variants:
            place = place / ("texture" if self.texture else "variants")
        place.mkdir(parents=True, exist_ok=True)
        return place

    @cached_property
    def real(self) -> Tensor:
        """Test images in [0, 1]."""
        batches = evaluation_batches(load_split(self.data, "test"), batch_size=500)
        return torch.cat([(batch["image"] + 1) / 2 for batch in batches])

    @cached_property
    def extractor(self) -> Any:
        """Of FID."""
        return load_extractor(self.args.extractor, torch.device("cpu"))

    @cached_property
    def real_features(self) -> Tensor:
        """Of all test images."""
        return torch.cat([self.extractor(images).features for images in self.real.split(500)])

    def train(self, name: str, family: str, options: str, seed: int) -> Path:
        """Train one run, unless that is done."""
        args = self.args
        data = ["--dataset_name", self.data.dataset_name or ""]
        more = {"dataset_config_name": self.data.dataset_config_name, "resolution": self.data.resolution}
        more |= {} if self.texture else {"max_train_samples": args.max_train_samples}
        data += [word for option, value in more.items() if value is not None for word in (f"--{option}", str(value))]
        length = f"--max_train_steps {args.steps} --num_threads {args.threads} --seed {seed}"
        shape = f"--width {args.width} --train_batch_size {args.batch_size} --learning_rate {args.learning_rate}"
        folder = self.folder / f"{name}-seed{seed}"
        return train_once(family, folder, data, length, shape, DISCRIMINATOR, options, LOOP)

    def maps(self, number: int) -> tuple[Tensor, Tensor]:
        """Test images spread evenly over the split, (number, channels, size, size), and masks (number, size, size)."""
        images = self.real[torch.linspace(0, len(self.real) - 1, number).long()]
        generator = torch.Generator().manual_seed(SEED)
        uniform = torch.rand(number, 1, *images.shape[2:], generator=generator)
        return images, sample_mask(uniform, KNOWN_PIXELS)[:, 0] > 0

    def quality(self, samples: Tensor) -> dict[str, float]:
        """FID; of textures the distances of HOG and LBP."""
        if self.texture:
            by_radius = {f"LBP {radius}": lbp_distance(self.real, samples, radius) for radius in (1, 2)}
            return {"HOG": hog_distance(self.real, samples), **by_radius}
        features = torch.cat([self.extractor(images).features for images in samples.split(500)])
        return {"FID": frechet_distance_from_features(self.real_features, features)}

    def judge(self, folder: Path) -> dict[str, float]:
        """Of a run of the family pixelwise."""
        pipe = PixelwisePipeline.from_pretrained(folder)
        generator = torch.Generator().manual_seed(SEED)
        images, masks = self.maps(NUM_SAMPLES)
        outputs = [
            pipe(values, mask, generator=generator, output_type="pt")
            for values, mask in zip(images.split(BATCH), masks.split(BATCH), strict=True)
        ]
        images, masks = self.maps(NUM_MAPS)
        of_maps = pipe(images, masks, num_samples=SAMPLES_OF_MAP, generator=generator, output_type="pt").images
        return {
            "MSE": torch.cat([output.mse for output in outputs]).mean().item(),
            "satisfied": torch.cat([output.satisfied for output in outputs]).mean().item(),
            "spread": spread(2 * of_maps.unflatten(0, (NUM_MAPS, SAMPLES_OF_MAP))).mean().item(),
            **self.quality(torch.cat([output.images for output in outputs])),
        }

    def judge_unconditional(self, folder: Path) -> dict[str, float]:
        """Of a run of the family gan."""
        pipe = GANPipeline.from_pretrained(folder)
        generator = torch.Generator().manual_seed(SEED)
        batches = range(max(NUM_SAMPLES, NUM_MAPS * SAMPLES_OF_MAP) // BATCH + 1)
        made = torch.cat([pipe(batch_size=BATCH, generator=generator, output_type="pt").images for _ in batches])
        groups = made[: NUM_MAPS * SAMPLES_OF_MAP].unflatten(0, (NUM_MAPS, SAMPLES_OF_MAP))
        return {"spread": spread(2 * groups).mean().item(), **self.quality(made[:NUM_SAMPLES])}

    def judge_mean_image(self) -> dict[str, float]:
        """Of the test images' mean, whatever the known pixels: what satisfying constraints is worth."""
        images, masks = self.maps(NUM_SAMPLES)
        mean = self.real.mean(0).expand_as(images)
        sides = (2 * mean - 1, 2 * images - 1, masks[:, None].float())
        return {
            "MSE": constraint_errors(*sides).mean().item(),
            "satisfied": satisfied_share(*sides).mean().item(),
            "spread": 0.0,
        }

    def judge_training_images(self) -> dict[str, float]:
        """As if the first training images were samples: what a perfect model would reach."""
        batches = evaluation_batches(load_split(self.data, "train"), batch_size=500)
        images = torch.cat([(batch["image"] + 1) / 2 for batch in itertools.islice(batches, NUM_SAMPLES // 500)])
        return self.quality(images)

    def run(self) -> str:
        """Train and judge everything; the table, and the picture of the first seed's runs."""
        results = Results(self.folder / "results.json", self.args)
        if self.args.variants:
            own = f" --extractor {self.args.extractor}"
            runs = {name: options + own * ("--save_best" in options) for name, options in VARIANTS.items()}
        else:
            runs = {f"lambda {weight:g}": f"--constraint_weight {weight}" for weight in self.args.lambdas}
            runs["CGAN"] = "--conditioning cgan"
        shape = f"--known_pixels {KNOWN_PIXELS} --latent_channels {self.args.latent_channels}"
        figures: dict[str, list[dict[str, float]]] = {name: [] for name in (*runs, "unconditional GAN")}
        for seed in range(self.args.seeds):
            for name, options in runs.items():
                folder = self.train(folder_name(name), "pixelwise", f"{shape} {options}", seed)
                figures[name].append(results.get(f"{name}, seed {seed}", partial(self.judge, folder)))
            folder = self.train("gan", "gan", "", seed)
            measure = partial(self.judge_unconditional, folder)
            figures["unconditional GAN"].append(results.get(f"unconditional GAN, seed {seed}", measure))
        self.picture([folder_name(name) for name in runs])
        figures["mean image"] = [results.get("mean image", self.judge_mean_image)]
        figures["training images"] = [results.get("training images", self.judge_training_images)]
        return table(figures)

    def picture(self, names: list[str]) -> None:
        """Of each run of the first seed: test images, their known pixels on grey, and samples.

        Of variants one sample for each map, and which known pixels it keeps.
        """
        images, masks = self.maps(SHOWN)
        known = torch.where(masks[:, None], images, torch.full_like(images, 0.5))
        pictures = {}
        for name in names:
            pipe = PixelwisePipeline.from_pretrained(self.folder / f"{name}-seed0")
            generator = torch.Generator().manual_seed(SEED)
            output = pipe(images, masks, num_samples=6, generator=generator, output_type="pt")
            rows = torch.cat([images[:, None], known[:, None], output.images.unflatten(0, (SHOWN, 6))], 1)
            pictures[name] = image_grid(rows.flatten(0, 1), columns=16)
            if self.args.variants:  # the thesis' figure 2.2
                rows = torch.stack([images, known, output.images[::6]], 1).expand(-1, -1, 3, -1, -1)
                kept = constraint_picture(output.constraint_map[::6])[:, None]
                pictures[name] = image_grid(torch.cat([rows, kept], 1).flatten(0, 1), columns=16)
        stack_pictures(pictures).save(self.folder / "pixelwise.png")


def folder_name(name: str) -> str:
    """Of a run."""
    return name.replace(",", "").replace(" ", "-")


def table(figures: dict[str, list[dict[str, float]]]) -> str:
    """Mean and standard deviation over the seeds; the spread also relative to that of the unconditional GAN."""
    columns = list(next(iter(figures.values()))[0])
    formats = {"satisfied": ".4f"}
    reference = [of_seed["spread"] for of_seed in figures["unconditional GAN"]]
    lines = [f"| Run | {' | '.join(columns)} | spread / GAN's |", "|--" * (len(columns) + 2) + "|"]
    for name, of_seeds in figures.items():
        cells = [
            mean_and_spread([of_seed[c] for of_seed in of_seeds if c in of_seed], formats.get(c, ".3g"))
            for c in columns
        ]
        pairs = zip(of_seeds, reference, strict=False)  # what is no run has no seeds
        ratios = [of_seed["spread"] / other for of_seed, other in pairs if "spread" in of_seed]
        lines.append(f"| {name} | {' | '.join(cells)} | {mean_and_spread(ratios)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", help="Fashion-MNIST: folder or Hub id; not with --texture")
    parser.add_argument("--extractor", help="folder of the classifier; not with --texture")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--texture", action="store_true", help="brick patches instead of Fashion-MNIST")
    parser.add_argument("--variants", action="store_true", help="generators and error models instead of lambdas")
    parser.add_argument("--lambdas", type=float, nargs="+", default=LAMBDAS)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--max_train_samples", type=int, default=20000, help="of Fashion-MNIST: each run decodes them")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=5e-4)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--latent_channels", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if not args.texture and None in (args.dataset_name, args.extractor):
        parser.error("--dataset_name and --extractor are needed without --texture")
    torch.set_num_threads(args.threads)
    if args.texture:
        data = DataArguments(dataset_name="builtin:textures", dataset_config_name="brick")
    else:
        data = DataArguments(dataset_name=args.dataset_name, resolution=32)
    study = Study(args, data, args.texture)
    lines = study.run()
    (study.folder / "table.md").write_text(lines, encoding="utf-8")
    print(lines)


if __name__ == "__main__":
    main()
