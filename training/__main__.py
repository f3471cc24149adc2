"""`python -m hf_genmodels.training FAMILY [options]`: what `hf-genmodels train` launches for any family."""

from __future__ import annotations

import signal
import sys

try:
    from hf_genmodels.training.entry import main, script  # which takes seconds
except KeyboardInterrupt:
    sys.exit(128 + signal.SIGINT)

if __name__ == "__main__":
    script(main)
