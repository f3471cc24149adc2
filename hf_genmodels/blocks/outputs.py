"""What the outputs of networks share."""

from typing import Any

# Default of every field of an output but the first: accelerate, which moves and casts outputs, makes them again of one
# dictionary, and diffusers' `BaseOutput` takes that where the other fields are None. Networks always give them.
UNSET: Any = None
