"""One case file a family: its smallest options, its data, what is compared. The sweeps over all families read them."""

from __future__ import annotations

import importlib

from hf_genmodels.families import OURS
from tests.testing_utils.cases import FamilyCase, TinyPipeline

CASES: dict[str, FamilyCase] = {name: importlib.import_module(f"tests.families.{name}").CASE for name in OURS}
TINY: dict[str, TinyPipeline] = {name: tiny for case in CASES.values() for name, tiny in case.pipelines.items()}
IMAGES_ONLY = frozenset(name for case in CASES.values() for name in case.images_only)
