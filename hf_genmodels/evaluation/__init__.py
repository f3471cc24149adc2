"""Measure a pipeline on a data set: the numbers of `metrics.json`, each with the settings it was made with.

What can be measured of a pipeline, and how it is called, is what its class says: see `GenerativePipeline`. `kinds` has
the metrics and which pipelines can serve them, `request` what was asked for, `compared` what is compared with what,
`collect` the one pass over data and samples, `report` the numbers.
"""

from .evaluate import evaluate_pipeline
from .kinds import METRICS

__all__ = ["METRICS", "evaluate_pipeline"]
