"""BEGAN beside a DCGAN of equal training time: FID, precision and recall, diversity, and where k stands.

    python benchmarks/reference_began.py --dataset_name FASHION_MNIST --resolution 32 \
        --extractor runs/reference-classifier-32 --output_dir runs/reference-began
    python benchmarks/reference_began.py --dataset_name builtin:digits --resolution 8 \
        --extractor runs/reference-classifier-digits --output_dir runs/reference-began-digits

BEGAN is trained for --steps with the paper's numbers (gamma 0.5, gain of k 0.001, learning rate 1e-4) and with those
for short runs, at two gammas. Then the DCGAN is trained for as many steps as took the time of the last BEGAN, by
its speed over --probe_steps. A run that was stopped goes on. Writes `results.json`, `table.md` and a picture of
samples of each run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from results import Results, seconds_of, train_once

from hf_genmodels import AutoPipeline
from hf_genmodels.data import DataArguments
from hf_genmodels.evaluation import evaluate_pipeline
from hf_genmodels.files import read_json
from hf_genmodels.plots import image_grid

SHORT = "--learning_rate 1e-3 --lambda_k 0.05"
BEGANS = {
    "BEGAN, paper's numbers": "--learning_rate 1e-4 --lambda_k 0.001 --gamma 0.5",
    "BEGAN, gamma 0.5": f"{SHORT} --gamma 0.5",
    "BEGAN, gamma 0.9": f"{SHORT} --gamma 0.9",
}
FIGURES = {"FID": ".3g", "W1": ".3g", "precision": ".2f", "recall": ".2f", "diversity": ".2f", "k": ".3f"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", required=True)
    parser.add_argument("--resolution", type=int, required=True)
    parser.add_argument("--extractor", required=True, help="a classifier of these images")
    parser.add_argument("--width", type=int, default=16, help="of all networks")
    parser.add_argument("--latent_dim", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3000, help="of BEGAN, at batches of 16 as in the paper")
    parser.add_argument("--probe_steps", type=int, default=100)
    parser.add_argument("--num_samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args()
    results = Results(args.output_dir / "results.json", args)
    common = [
        f"--dataset_name {args.dataset_name} --resolution {args.resolution} --seed {args.seed} --num_threads 1",
        f"--width {args.width} --latent_dim {args.latent_dim} --checkpointing_steps 250 --log_steps 50",
    ]
    rows = {}
    for name, options in BEGANS.items():
        steps = f"--train_batch_size 16 --max_train_steps {args.steps}"
        rows[name] = train_once("began", args.output_dir / slug(name), *common, options, steps)
    seconds = seconds_of(rows["BEGAN, gamma 0.9"])
    probe = train_once("gan", args.output_dir / "probe", *common, f"--max_train_steps {args.probe_steps}")
    steps = results.get("DCGAN steps", lambda: round(args.probe_steps * seconds / seconds_of(probe)))
    rows["DCGAN"] = train_once("gan", args.output_dir / "dcgan", *common, f"--max_train_steps {steps}")
    lines = [f"| Run | steps | seconds | {' | '.join(FIGURES)} |", "|--|--|--|" + "--|" * len(FIGURES)]
    for name, folder in rows.items():
        found = results.get(name, lambda folder=folder: measure(folder, args))
        cells = " | ".join(format(found[figure], how) if figure in found else "-" for figure, how in FIGURES.items())
        lines.append(f"| {name} | {found['steps']} | {found['seconds']:.0f} | {cells} |")
    (args.output_dir / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def slug(name: str) -> str:
    """A run's name as that of a folder."""
    return name.lower().replace(",", "").replace("'", "").replace(" ", "_")


def measure(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """The figures of a run on the test images, and a picture of its samples beside it."""
    pipe, written = AutoPipeline.from_pretrained(folder), read_json(folder / "metrics.json")
    found = evaluate_pipeline(
        pipe,
        DataArguments(dataset_name=args.dataset_name, resolution=args.resolution),
        split="test",
        metrics=["fid", "wasserstein", "precision_recall"],
        num_samples=args.num_samples,
        batch_size=100,
        extractor=args.extractor,
        seed=args.seed,
        progress=False,
    )
    images = pipe(batch_size=50, generator=torch.Generator().manual_seed(args.seed), output_type="pt").images
    image_grid(images, columns=10).save(folder.parent / f"{folder.name}.png")
    of_training = written["train"]
    return (
        {each["name"]: each["value"] for each in found}
        | {"steps": written["step"], "seconds": written["seconds"], "diversity": of_training["sample_diversity"]}
        | ({"k": of_training["discriminator/k"]} if "discriminator/k" in of_training else {})
    )


if __name__ == "__main__":
    main()
