"""Writes a tiny language model in GGUF: real format, random weights, no meaning in its words.

Enough for llama.cpp to load, tokenise and generate, which is what a scrape of its metrics needs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np

WIDTH, HEADS, INNER, CONTEXT = 64, 4, 128, 512


def vocabulary() -> tuple[list[bytes], list[int]]:
    """Return tokens and their types: three of control, 256 bytes, the letters as pieces."""
    control = [b"<unk>", b"<s>", b"</s>"]
    raw = [f"<0x{byte:02X}>".encode() for byte in range(256)]
    pieces = ["\u2581".encode(), *(bytes([letter]) for letter in range(33, 127))]
    types = [
        gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL,
        *[gguf.TokenType.BYTE] * len(raw), *[gguf.TokenType.NORMAL] * len(pieces),
    ]  # fmt: skip
    return control + raw + pieces, [int(kind) for kind in types]


def write_model(path: Path, *, layers: int = 1, seed: int = 1) -> None:
    """Write a model of some hundred kilobytes to *path*; more *layers* make it slower."""
    tokens, types = vocabulary()
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (random.standard_normal((rows, columns)) * 0.05).astype(np.float32)

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(index) for index in range(len(tokens))])
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_tensor("token_embd.weight", matrix(len(tokens), WIDTH))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    writer.add_tensor("output.weight", matrix(len(tokens), WIDTH))
    for layer in range(layers):
        block = f"blk.{layer}."
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{name}.weight", np.ones(WIDTH, dtype=np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{block}{name}.weight", matrix(WIDTH, WIDTH))
        writer.add_tensor(f"{block}ffn_gate.weight", matrix(INNER, WIDTH))
        writer.add_tensor(f"{block}ffn_up.weight", matrix(INNER, WIDTH))
        writer.add_tensor(f"{block}ffn_down.weight", matrix(WIDTH, INNER))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--layers", type=int, default=1)
    given = parser.parse_args()
    write_model(given.path, layers=given.layers)
