"""The metric names of each inference engine, as tables, and how series become signals."""

from controlplane.telemetry.engines.dialect import Dialect
from controlplane.telemetry.engines.reading import parse_metrics
from controlplane.telemetry.engines.recognition import recognise_engine
from controlplane.telemetry.engines.tables import DIALECTS, TABLES

__all__ = ["DIALECTS", "TABLES", "Dialect", "parse_metrics", "recognise_engine"]
