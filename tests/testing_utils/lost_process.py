"""What each of two processes does of which one is killed: `main` is run in both."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from accelerate import Accelerator

from hf_genmodels.training.entry import script
from tests.testing_utils.told import trained


def main(folder: Path, victim: int, moment: str) -> None:
    """Train in `folder/machine-<number>`; process `victim` is killed by SIGKILL at a `moment` of `Told`."""
    rank = Accelerator().process_index
    mine = folder / f"machine-{os.environ.get('GROUP_RANK', rank)}"  # a launcher says which of its machines this is
    mine.mkdir(parents=True, exist_ok=True)
    trained(mine / "run", *((moment, signal.SIGKILL) if rank == victim else ()))


if __name__ == "__main__":
    if "WORLD_SIZE" not in os.environ:
        os.environ.update(LOCAL_RANK="0", LOCAL_WORLD_SIZE="1", WORLD_SIZE="2")
    script(lambda: main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
