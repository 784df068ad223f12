"""Which table belongs to which engine; a new engine is a module and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.config.engine import Engine
from controlplane.telemetry.engines.dialect import Dialect
from controlplane.telemetry.engines.dynamo import DYNAMO
from controlplane.telemetry.engines.endpoint_picker import EPP
from controlplane.telemetry.engines.generic import GENERIC, OLLAMA
from controlplane.telemetry.engines.llamacpp import LLAMACPP
from controlplane.telemetry.engines.lmdeploy import LMDEPLOY
from controlplane.telemetry.engines.sglang import SGLANG
from controlplane.telemetry.engines.tei import TEI
from controlplane.telemetry.engines.tgi import TGI
from controlplane.telemetry.engines.triton import TRITON
from controlplane.telemetry.engines.trtllm import TRTLLM
from controlplane.telemetry.engines.vllm import VLLM

DIALECTS: Mapping[Engine, Dialect] = {
    Engine.VLLM: VLLM,
    Engine.SGLANG: SGLANG,
    Engine.TRITON: TRITON,
    Engine.TRTLLM: TRTLLM,
    Engine.TGI: TGI,
    Engine.LLAMACPP: LLAMACPP,
    Engine.OLLAMA: OLLAMA,
    Engine.EPP: EPP,
    Engine.LMDEPLOY: LMDEPLOY,
    Engine.DYNAMO: DYNAMO,
    Engine.TEI: TEI,
    Engine.GENERIC: GENERIC,
}
TABLES: Mapping[str, Dialect] = {engine.value: table for engine, table in DIALECTS.items()}
"""The same by name, as `controlplane.telemetry.engines.custom` adds to."""
