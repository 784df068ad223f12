"""Hashes of what goes to Envoys, for many rows at once: equal splits, equal digests.

A row's digest is the sum of its terms' hashes, so that thousands of rows are hashed in a few
array operations, and replicas that number instances differently come to the same. Terms are
mixed by SplitMix64 (Steele, Lea and Flood 2014), twice with different seeds: 128 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from controlplane.steering.plan import Assignment

Words = NDArray[np.uint64]

_SEEDS = (0x243F6A8885A308D3, 0x13198A2E03707344)
_PRIORITY = 48
"""Bits that a weight may take at most; the priority stands above them."""


@lru_cache(maxsize=1 << 17)
def name_word(name: str) -> int:
    """Return 64 bits that stand for *name*."""
    return int.from_bytes(sha256(name.encode()).digest()[:8])


def name_words(names: Iterable[str]) -> Words:
    """Return the words of *names*."""
    return np.array([name_word(name) for name in names], dtype=np.uint64)


def term_words(names: Words, weights: NDArray[np.int64], priority: int = 0) -> Words:
    """Return the hashes of (instance, weight, priority) terms, shape (2, terms)."""
    value = weights.astype(np.uint64) | np.uint64(priority << _PRIORITY)
    return np.stack([_mix(_mix(names ^ np.uint64(seed)) + value) for seed in _SEEDS])


def split_words(
    names: Words,
    splits: Sequence[tuple[int, ...]],
    weights: Sequence[Sequence[int]],
    *,
    priority: int,
) -> Words:
    """Return the sum of the terms' hashes of each of *splits*, shape (splits, 2).

    Args:
        names: of all instances.
        splits: of each, the instances, at least one.
        weights: the weights of these.
        priority: of all terms.
    """
    columns = np.fromiter(chain.from_iterable(splits), dtype=np.intp)
    amounts = np.fromiter(chain.from_iterable(weights), dtype=np.int64)
    counts = np.array([len(split) for split in splits])
    terms = term_words(names[columns], amounts, priority)
    words: Words = np.add.reduceat(terms, np.cumsum(counts) - counts, axis=1).T
    return words


def drop_words(drop: float) -> Words:
    """Return the hash of the fraction of requests that Envoys refuse, shape (2,)."""
    if drop <= 0:
        return np.zeros(2, dtype=np.uint64)
    seeds = np.array(_SEEDS, dtype=np.uint64)
    return _mix(seeds + np.uint64(int(drop * (1 << 40)) + 1))


def row_digest(words: Words) -> bytes:
    """Return a digest, 16 bytes, of the sum of a row's terms, shape (2,)."""
    return words.astype("<u8").tobytes()


def assignment_digest(assignment: Assignment) -> bytes:
    """Return the digest of one assignment: its instances, weights and priorities, no more."""
    total = drop_words(assignment.drop)
    for priority in sorted({a.priority for a in assignment.allocations}):
        own = [a for a in assignment.allocations if a.priority == priority]
        weights = np.array([a.weight for a in own], dtype=np.int64)
        terms = term_words(name_words(a.instance for a in own), weights, priority)
        total = total + terms.sum(axis=1, dtype=np.uint64)
    return row_digest(total)


def plan_version(digests: Iterable[tuple[tuple[str, str], bytes]]) -> str:
    """Return the version of a plan from the digest of each (service, client site)."""
    whole = sha256()
    for key, digest in sorted(digests):
        whole.update(f"{key[0]}\0{key[1]}\n".encode() + digest)
    return whole.hexdigest()[:16]


def _mix(words: Words) -> Words:
    """Return SplitMix64 of each word."""
    with np.errstate(over="ignore"):
        mixed = words + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))
