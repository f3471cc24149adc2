"""The code of the pages that show how to build on the library runs as pasted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.testing_utils.fresh import run_python
from tests.testing_utils.training import ROOT


def test_own_networks(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "own_networks.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.+?)```", page, re.DOTALL)
    assert len(blocks) == 4
    (tmp_path / "page.py").write_text("\n".join([*blocks, "print(len(images), type(pipe.generator).__name__)"]))
    done = run_python("page.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "16 MyGenerator"
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"mine", "my_loss"}


def test_a_notebooks_launcher_trains_in_two_processes(tmp_path: Path) -> None:
    script = """
from accelerate import notebook_launcher
from tests.testing_utils.own import run

notebook_launcher(run, ("gan", "runs/two"), num_processes=2)
"""
    environment = {"ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
    (tmp_path / "notebook.py").write_text(script)
    command = [sys.executable, "notebook.py"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "runs" / "two" / "metrics.json").read_text())["environment"]["processes"] == 2
