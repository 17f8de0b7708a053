"""What counts as the same content."""

from __future__ import annotations

from dataclasses import dataclass, field

from marc_core.bounds import number
from marc_core.config import MemoryConfig


@dataclass(frozen=True, kw_only=True)
class DedupConfig:
    """Settings of `marc dedup`."""

    memory: MemoryConfig = field(default_factory=MemoryConfig)
    """The memory that is looked through."""
    similarity: float = number(0.95, above=0, most=1)
    """Least cosine of two events that are one (our choice: the tiny encoder finds 94 % of
    re-encoded copies, 78 % at 0.98, without a wrong pair; `benchmarks.duplicates`)."""
    tolerance_s: float = number(0.5, above=0)
    """Most difference of their lengths, and of the offsets of a copy's events (our choice: a copy
    of another frame rate cuts a frame or two elsewhere)."""
    min_events: int = number(2, least=1)
    """Events that occur once in either video and must fit at one offset (our choice: one alone may
    be chance). Videos of fewer are the same only where their bytes are."""
