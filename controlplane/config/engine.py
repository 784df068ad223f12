"""Which inference servers there are; apart, so that anyone who needs no more loads no more."""

from __future__ import annotations

from enum import StrEnum


class Engine(StrEnum):
    """Inference server of an instance, which determines its metric names."""

    VLLM = "vllm"
    SGLANG = "sglang"
    TRITON = "triton"
    TRTLLM = "trtllm"
    TGI = "tgi"
    LLAMACPP = "llamacpp"
    OLLAMA = "ollama"
    EPP = "epp"
    """An endpoint picker (Gateway API inference extension, llm-d) before a pool of engines."""
    LMDEPLOY = "lmdeploy"
    DYNAMO = "dynamo"
    """Dynamo's HTTP front end before a pool of engines."""
    TEI = "tei"
    """Text Embeddings Inference."""
    GENERIC = "generic"
