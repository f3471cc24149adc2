"""Short runs of objectives, by one process or by each of several: `main` is what those launch."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from hf_genmodels.data import DataArguments, DataSpec, LoadedData, load_data
from hf_genmodels.families import FAMILIES
from hf_genmodels.objectives.base import Objective
from hf_genmodels.processes import let_collectives_end
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.entry import make_run
from hf_genmodels.training.health import DATA_WAIT
from tests.families import CASES
from tests.testing_utils.cases import Equal

GLOBAL_BATCH = 16
STEPS = 10


class InFloat64:
    """A data set whose images have another precision."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.specs: dict[str, DataSpec] = {}  # nothing is left to be done

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def gather(self, work: Any) -> dict[str, torch.Tensor]:
        batch = self.dataset.collate(work)
        return {name: values.double() if values.is_floating_point() else values for name, values in batch.items()}


# name -> (family, case) of every run
RUNS: dict[str, tuple[str, Equal]] = {
    name: (family, equal) for family, case in CASES.items() for name, equal in case.equal.items()
}
# those that several processes run once more, each holding a share of the optimisers' states: a part that is not used,
# two groups of one network, many tensors, weights that are clipped after each update
SHARED_STATES = ("idle head", "avae", "ddpm", "clipped")


def load(name: str) -> LoadedData:
    """96 training examples."""
    family, case = RUNS[name]
    args = DataArguments(dataset_name=case.dataset_name, max_train_samples=96, resolution=case.resolution, **case.data)
    data = load_data(args, 0, FAMILIES[family].layout(FAMILIES[family].arguments(**case.options)))
    return dataclasses.replace(data, train=InFloat64(data.train), validation=None) if case.float64 else data


def build(name: str, data: DataSpec) -> Objective:
    """The objective with the weights of seed 0."""
    family, case = RUNS[name]
    torch.manual_seed(0)
    objective = FAMILIES[family].build(FAMILIES[family].arguments(**case.options), data)
    if case.change is not None:
        torch.manual_seed(0)
        objective = case.change(objective)
    for network in objective.networks.values() if case.float64 else ():
        network.double()
    return objective


def train(name: str, folder: Path, resume_from: Path | None = None, **changes: Any) -> None:
    """Ten steps on global batches of 16; the main process leaves networks, `losses.pt` and `state.pt` in `folder`."""
    accelerator = Accelerator()
    data = load(name)
    options: dict[str, Any] = {
        "train_batch_size": GLOBAL_BATCH // accelerator.num_processes,
        "max_train_steps": STEPS,
        "learning_rate": 0.002,
        "log_steps": 5,
        "checkpointing_steps": 0,
    }
    args = TrainingArguments(output_dir=str(folder), **{**options, **changes})
    objective = build(name, data.spec)
    run = make_run(objective, data, args, accelerator, {})
    run.prepare(resume_from)
    run.learn()
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        for name, network in run.networks.items():
            network.save_pretrained(str(folder / name))
        without_clock = {name: points for name, points in run.history.items() if name != DATA_WAIT}
        torch.save(without_clock, folder / "losses.pt")
        torch.save(run.objective.state_dict(), folder / "state.pt")


def main(folder: Path) -> None:
    """Run all cases, each in a folder of its own."""
    torch.set_num_threads(1)
    for name in RUNS:
        train(name, folder / name)
    accelerator = Accelerator()
    if accelerator.num_processes > 1:
        train("pix2pix", folder / "pix2pix recomputed", gradient_checkpointing=True)
    for name in SHARED_STATES if accelerator.num_processes > 1 else ():
        shared, changes = folder / f"{name} shared", {"zero_redundancy_optimizer": True, "checkpointing_steps": 5}
        train(name, shared, **changes)
        train(name, folder / f"{name} resumed", shared / "checkpoint-5", **changes)
    accelerator.wait_for_everyone()
    let_collectives_end()
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
