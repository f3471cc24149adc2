"""Python programs in processes of their own, forked from one that has imported torch and what else takes long.

It has imported nothing that a program may see a difference in: neither this library, nor diffusers, transformers and
huggingface_hub, which read the environment when they are imported. Such a start costs a third of the time of a new
interpreter's. Where the start itself is tested, or is the launcher's, a test calls `subprocess`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
import types
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = ("torch._dynamo", "torch._inductor", "torch.distributed.fsdp", "torch.distributed.tensor", "torch.onnx")
IMPORTED += ("scipy.optimize", "scipy.stats", "sympy", "sklearn.datasets", "pyarrow", "PIL.Image", "yaml", "httpx2")

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(list(IMPORTED))


def run_python(
    *words: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None, timeout: float = 200
) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run([sys.executable, *words], ...)` gives, with its output as text.

    Args:
        words: `-c` and code, `-m` and a module, or a file; then the program's arguments.
        cwd: Where it runs.
        environment: All of its environment; that of this process by default.
        timeout: Seconds after which it is killed and the test fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = [os.path.join(folder, name) for name in ("stdout", "stderr")]
        process = FORKS.Process(target=_begin, args=(words, str(cwd), dict(environment or os.environ), *outputs))
        process.start()
        process.join(timeout)
        too_long = process.is_alive()
        if too_long:
            process.kill()
            process.join()
        said = [Path(path).read_text("utf-8") for path in outputs]
        assert not too_long, f"{' '.join(words)} took more than {timeout} seconds: {said[1]}"
        return subprocess.CompletedProcess([sys.executable, *words], process.exitcode or 0, *said)


def _begin(words: tuple[str, ...], cwd: str, environment: dict[str, str], stdout: str, stderr: str) -> None:
    """The forked process: takes on folder, environment and outputs, and runs the program."""
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    first, *rest = words
    folder = str(Path(first).resolve().parent) if first not in ("-c", "-m") else cwd
    inherited = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [folder, *inherited, *(path for path in sys.path if path not in ("", str(ROOT)))]
    try:
        if first == "-c":
            sys.argv = ["-c", *rest[1:]]
            sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(rest[0], "<string>", "exec"), vars(sys.modules["__main__"]))
        elif first == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(words)
            runpy.run_path(first, run_name="__main__")
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
