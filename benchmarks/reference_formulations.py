"""DDPM, EDM, flow matching and score matching with one network and one budget: FID by sampler and network calls.

    python benchmarks/reference_formulations.py --dataset_name FOLDER --resolution 32 \
        --extractor runs/reference-classifier-32 --output_dir runs/reference-formulations

Trains each for `--steps` steps of the same network, batch and learning rate. FID compares the features of the data's
own classifier, of the test images and of 1,000 samples. The settings of each sampler are chosen by the FID of 500
samples to 10,000 training images, at 20 calls. What is done is not done again: results are kept in
`results.json`, the table in `table.md`, pictures in `formulations.png`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from results import Results, seconds_of, train_once
from torch import Tensor

from hf_genmodels import AutoPipeline
from hf_genmodels.data import DataArguments, evaluation_batches, load_split
from hf_genmodels.metrics.distribution import frechet_distance_from_features
from hf_genmodels.metrics.extractors import load_extractor
from hf_genmodels.plots import image_grid, stack_pictures

SEED, NUM_SAMPLES, NUM_TO_CHOOSE, BATCH, MOST_REAL = 0, 1000, 500, 100, 10_000
NETWORK = "--block_out_channels 16 32 64 64 --layers_per_block 1"
RUN = "--train_batch_size 64 --learning_rate 1e-3 --lr_scheduler cosine --lr_warmup_steps 100"
LOOP = "--log_steps 100 --checkpointing_steps 500"
CHOSEN_AT = 20
# family -> name of a sampler -> its class in diffusers, settings to choose from, and calls a step
SAMPLERS: dict[str, dict[str, tuple[str, list[dict[str, Any]], int]]] = {
    "ddpm": {
        "DDIM, clip_sample=False": ("DDIMScheduler", [{"clip_sample": False}], 1),
        "DPM-Solver": ("DPMSolverMultistepScheduler", [{}], 1),
    },
    "edm": {
        "Euler": ("EDMEulerScheduler", [{"sigma_max": level} for level in (80.0, 20.0, 10.0)], 1),
        "DPM-Solver": ("EDMDPMSolverMultistepScheduler", [{"sigma_max": level} for level in (80.0, 20.0, 10.0)], 1),
    },
    "flow_matching": {
        "Euler": ("FlowMatchEulerDiscreteScheduler", [{"shift": shift} for shift in (1.0, 0.5, 2.0)], 1),
        "Heun": ("FlowMatchHeunDiscreteScheduler", [{"shift": shift} for shift in (1.0, 0.5, 2.0)], 2),
    },
    "score": {
        "predictor and corrector": ("ScoreSdeVeScheduler", [{"snr": snr} for snr in (0.16, 0.08, 0.3)], 2),
        "predictor": ("ScoreSdeVeScheduler", [{"correct_steps": 0}], 1),
    },
}


def real_features(args: argparse.Namespace, extractor: Any, split: str) -> Tensor:
    """Of at most 10,000 images."""
    data = load_split(DataArguments(dataset_name=args.dataset_name, resolution=args.resolution), split)
    found: list[Tensor] = []
    batches: Iterable[dict[str, Tensor]] = evaluation_batches(data, batch_size=500)
    for batch in batches:
        found.append(extractor((batch["image"] + 1) / 2)[0])
        if sum(map(len, found)) >= MOST_REAL:
            break
    return torch.cat(found)[:MOST_REAL]


def load(folder: Path, scheduler: str, settings: dict[str, Any]) -> Any:
    """A trained pipeline, with another sampler."""
    pipe = AutoPipeline.from_pretrained(folder)
    pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config, **settings)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def steps_of(calls: int, calls_a_step: int) -> int:
    """Steps that take at most so many calls; Heun's last step is one of Euler's."""
    return calls if calls_a_step == 1 else (calls + 1) // 2


def samples(folder: Path, scheduler: str, settings: dict[str, Any], steps: int, count: int) -> Tensor:
    """Images in [0, 1]."""
    pipe, generator = load(folder, scheduler, settings), torch.Generator().manual_seed(SEED)
    options = {"num_inference_steps": steps, "generator": generator, "output_type": "pt"}
    return torch.cat([pipe(batch_size=min(BATCH, count), **options).images for _ in range(-(-count // BATCH))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", required=True)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--extractor", required=True, help="folder of the classifier")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--network", default=NETWORK, help="options of the network")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--tasks", nargs="+", default=["ddpm", "edm", "flow_matching"], choices=list(SAMPLERS))
    parser.add_argument("--calls", type=int, nargs="+", default=[10, 20, 50], help="of the network, for a sample")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = Results(args.output_dir / "results.json", args)
    data = ["--dataset_name", args.dataset_name, "--resolution", str(args.resolution)]
    length = f"--max_train_steps {args.steps} --num_threads {args.threads} --seed {SEED}"
    folders = {}
    for family in args.tasks:
        folder = train_once(family, args.output_dir / family, data, args.network, RUN, length, LOOP)
        results.get(f"seconds of {family}", partial(seconds_of, folder))
        folders[family] = folder

    extractor = load_extractor(args.extractor, torch.device("cpu"))
    test, training = (real_features(args, extractor, split) for split in ("test", "train"))

    def fid(real: Tensor, count: int, *sampler: Any) -> float:
        return frechet_distance_from_features(real, extractor(samples(*sampler, count))[0])

    lines = ["| Model | Sampler | " + " | ".join(f"{calls} calls" for calls in args.calls) + " |"]
    lines.append("|--" * (len(args.calls) + 2) + "|")
    pictures = {}
    for family, folder in folders.items():
        for name, (scheduler, choices, calls_a_step) in SAMPLERS[family].items():
            steps = steps_of(CHOSEN_AT, calls_a_step)
            found = {}
            for index, settings in enumerate(choices if len(choices) > 1 else []):
                key = f"FID to training images, {family}, {name}, {settings}"
                measure = partial(fid, training, NUM_TO_CHOOSE, folder, scheduler, settings, steps)
                found[index] = results.get(key, measure)
            best = choices[min(found, key=lambda index: found[index]) if found else 0]
            cells = []
            for calls in args.calls:
                key = f"FID, {family}, {name}, {calls} calls"
                steps = steps_of(calls, calls_a_step)
                value = results.get(key, partial(fid, test, NUM_SAMPLES, folder, scheduler, best, steps))
                cells.append(f"{value:.1f}")
            chosen = ", ".join(f"{option}={value}" for option, value in best.items())
            lines.append(f"| {family} | {name}{f' ({chosen})' if len(choices) > 1 else ''} | {' | '.join(cells)} |")
            steps = steps_of(CHOSEN_AT, calls_a_step)
            images = samples(folder, scheduler, best, steps, 24)
            pictures[f"{family}, {name}, {CHOSEN_AT} calls"] = image_grid(images, columns=24)
    stack_pictures(pictures).save(args.output_dir / "formulations.png")
    (args.output_dir / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
