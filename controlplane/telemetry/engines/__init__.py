"""The metric names of each inference engine, as tables, and how series become signals."""

from controlplane.telemetry.engines.reading import parse_metrics, recognise_engine
from controlplane.telemetry.engines.tables import DIALECTS

__all__ = ["DIALECTS", "parse_metrics", "recognise_engine"]
