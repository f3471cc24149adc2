"""How fast images come in: a folder of JPEGs through `TrainingBatches` and through a hand-written data set.

    python benchmarks/bench_input.py [--images 20000] [--rounds 9] [--batches 40] [--workers 2] [--seed 0]

Images of 256 pixels (shorter side; the longer one has 256 to 304, so that crops differ), of 15 to 25 kB each, at
`--resolution 64` with random crops and flips, batch 64, decoded by worker processes. By hand: PIL's `open`, `convert`,
Lanczos to a shorter side of 64, crop, flip, a float tensor, `DataLoader`; once decoding whole, once with `draft` as
`Image.thumbnail` uses it. A round starts the workers, takes the batches and stops the workers, of each in turn.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data as photographs
from timing import interleave

from hf_genmodels.data import DataArguments, TrainingBatches, load_data

BATCH, RESOLUTION, SIDE, DISTINCT = 64, 64, 256, 200


def write_images(folder: Path, count: int, seed: int) -> float:
    """Pieces of photographs of textures in random colours, with noise; returns their mean size in bytes."""
    random = np.random.default_rng(seed)
    textures = [photographs.brick(), photographs.grass(), photographs.gravel()]
    files = []
    for index in range(DISTINCT):
        texture, width = textures[index % 3], SIDE + 8 * (index % 7)
        top, left = random.integers(0, 512 - SIDE), random.integers(0, 512 - width)
        piece = texture[top : top + SIDE, left : left + width, None] * random.uniform(0.5, 1, 3)
        noisy = piece + random.normal(0, 4, piece.shape)
        file = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=80)
        files.append(file.getvalue())
    for index in range(count):
        (folder / f"{index:05d}.jpg").write_bytes(files[index % DISTINCT])
    return statistics.mean(map(len, files))


class ByHand(torch.utils.data.Dataset):
    """What one would write without a library."""

    def __init__(self, folder: Path, draft: bool) -> None:
        self.paths = sorted(folder.glob("*.jpg"))
        self.draft = draft

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            if self.draft:
                image.draft("RGB", (2 * RESOLUTION, 2 * RESOLUTION))
            image = image.convert("RGB")
        scale = RESOLUTION / min(image.size)
        size = round(image.width * scale), round(image.height * scale)
        image = image.resize(size, Image.Resampling.LANCZOS)
        left, top = (int(torch.randint(side - RESOLUTION + 1, ())) for side in size)
        image = image.crop((left, top, left + RESOLUTION, top + RESOLUTION))
        if torch.rand(()) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(127.5).sub_(1).contiguous()


def by_hand(folder: Path, draft: bool, batches: int, workers: int) -> Callable[[], None]:
    """Takes batches of the hand-written data set."""
    dataset = ByHand(folder, draft)

    def take() -> None:
        loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, drop_last=True)
        consume(iter(loader), batches)

    return take


def library(dataset: object, batches: int, workers: int, seed: int) -> Callable[[], None]:
    """Takes batches of `TrainingBatches`."""
    made = TrainingBatches(dataset, batch_size=BATCH, seed=seed, num_workers=workers)  # type: ignore[arg-type]
    return lambda: consume((batch["image"] for batch in made.start(0)), batches)


def consume(images: Iterator[torch.Tensor], batches: int) -> None:
    """Look at that many batches, and let go of what makes them."""
    for batch in islice(images, batches):
        assert batch.shape == (BATCH, 3, RESOLUTION, RESOLUTION) and batch.dtype == torch.float32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, default=40, help="of one round")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_images(folder, args.images, args.seed)
        start = time.perf_counter()
        data = load_data(DataArguments(train_data_dir=name, resolution=RESOLUTION, random_flip=True), seed=args.seed)
        survey = time.perf_counter() - start
        print(f"{args.images} JPEGs of {size / 1000:.1f} kB on average; looked at in {survey:.1f} s")
        runs = {
            "library": library(data.train, args.batches, args.workers, args.seed),
            "by hand": by_hand(folder, False, args.batches, args.workers),
            "by hand, draft": by_hand(folder, True, args.batches, args.workers),
        }
        seconds = interleave(runs, args.rounds, warm_up=1)
    rates = {run: BATCH * args.batches / np.array(values) for run, values in seconds.items()}
    for run, rate in rates.items():
        print(f"{run}: {np.median(rate):.0f} images/s")
    for run in list(rates)[1:]:
        low, middle, high = np.quantile(rates["library"] / rates[run], (0.25, 0.5, 0.75))
        print(f"library / {run} = {middle:.3f} (quartiles {low:.3f}, {high:.3f})")


if __name__ == "__main__":
    main()
