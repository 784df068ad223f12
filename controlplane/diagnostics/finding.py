"""What an examination comes to: something that is wrong, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, or soon will be."""

    level: Literal["bad", "warning"]
    what: str
    remedy: str
