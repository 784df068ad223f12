"""What to propose for a name that is not known: one answer for every place that reads names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_COMPARED = 1000
"""Most names that a misspelt one is compared with; a thousand take a few milliseconds."""


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name most like *word* whatever its case, or None where none is alike."""
    folded: dict[str, str] = {}
    for name in known:
        if len(folded) == _COMPARED:
            break
        folded.setdefault(name.casefold(), name)
    near = difflib.get_close_matches(word.casefold(), folded, n=1)
    return folded[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str], *, shown: int = 20) -> str:
    """Return ``did you mean 'model'?``, or the first names that are known, or nothing at all."""
    names = list(dict.fromkeys(known))
    near = closest(word, names)
    if near is not None:
        return f"did you mean '{near}'?"
    if not names:
        return ""
    return f"known: {', '.join(names[:shown])}{', ...' if len(names) > shown else ''}"
