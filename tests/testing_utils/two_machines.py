"""What each of two processes does that share no disk: `main` is run in both, as on two machines."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from hf_genmodels import UserError
from hf_genmodels.processes import let_collectives_end
from hf_genmodels.training.output_folder import occupied
from hf_genmodels.training.resuming import sees_first
from tests.testing_utils.told import trained
from tests.testing_utils.training import flip_a_bit


def refusal(action: Callable[[], Any]) -> str:
    """What an action is refused with."""
    try:
        action()
    except UserError as error:
        return str(error)
    return "it was not refused"


def main(folder: Path) -> None:
    """Train in `folder/machine-<rank>`, and leave in `said.json` there what was seen."""
    accelerator = Accelerator()
    rank = accelerator.process_index
    mine = folder / f"machine-{rank}"
    mine.mkdir(parents=True)
    run, said = mine / "run", {}
    signal.signal(signal.SIGTERM, lambda *_: None)

    whole = trained(mine / "whole")
    dropped = gather_object([torch.cat([each.flatten() for each in whole._dropped])])
    said["masks"] = [bool((dropped[0] == dropped[1]).all()), float(dropped[1].float().mean())]

    said["options"] = refusal(lambda: trained(run, learning_rate=0.01 + rank))
    said["data"] = refusal(lambda: trained(run, max_train_samples=64 + rank))

    try:  # one of them is told
        trained(run, *(("step 5", signal.SIGTERM) if rank == 1 else ()))
    except KeyboardInterrupt:
        said["stopped"] = sorted(path.name for path in run.glob("checkpoint-*"))
    trained(run, resume_from_checkpoint="latest")
    shutil.copytree(run, mine / "resumed")

    said["sees first"] = [
        sees_first(accelerator, place / "checkpoint-10" / "checkpoint.json")
        for place in (run, folder / "machine-0/run")
    ]
    if rank == 1:
        flip_a_bit(run / "checkpoint-10" / "state.pt")
    said["damaged"] = refusal(lambda: trained(run, resume_from_checkpoint="latest"))

    if rank == 1:
        shutil.rmtree(run / "checkpoint-10")
    trained(run, resume_from_checkpoint="latest")  # the newest that both have
    said["files"] = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())

    if rank == 1:
        shutil.rmtree(run / "checkpoint-5")
        shutil.copytree(mine / "whole" / "checkpoint-5", run / "checkpoint-5")
    said["another"] = refusal(lambda: trained(run, resume_from_checkpoint="checkpoint-5"))
    if rank == 1:
        for path in run.glob("checkpoint-*"):
            shutil.rmtree(path)
    said["none"] = refusal(lambda: trained(run, resume_from_checkpoint="latest"))
    if rank == 1:
        with occupied(run):
            said["occupied"] = refusal(lambda: trained(run, overwrite_output_dir=True))
    else:
        said["occupied"] = refusal(lambda: trained(run, overwrite_output_dir=True))

    (mine / "said.json").write_text(json.dumps(said))
    let_collectives_end()
    accelerator.end_training()


if __name__ == "__main__":
    os.environ.update(LOCAL_RANK="0", LOCAL_WORLD_SIZE="1", WORLD_SIZE="2")
    main(Path(sys.argv[1]))
