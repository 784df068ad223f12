"""What instances and agents say, in their own formats, to reports.

Pure: text and bytes in, values out.
"""

from controlplane.telemetry.batches import Batch, parse_batch
from controlplane.telemetry.engines import parse_metrics
from controlplane.telemetry.exposition import decode_exposition, parse_exposition

__all__ = ["Batch", "decode_exposition", "parse_batch", "parse_exposition", "parse_metrics"]
