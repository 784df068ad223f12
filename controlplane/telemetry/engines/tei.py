"""Text Embeddings Inference, by its ``core/src`` and ``router/src/http``.

It has no gauge of the requests that it works on; Little's law over its durations stands in.
"""

from __future__ import annotations

from controlplane.telemetry.engines.machine import dialect
from controlplane.telemetry.engines.tgi import router_rules

TEI = dialect(router_rules("te"), marks=("te_",))
