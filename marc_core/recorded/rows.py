"""The columns of `videos` that say when a video was recorded, and how that is known."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from marc_core.configure import fingerprint
from marc_core.recorded.sources import find_recorded

if TYPE_CHECKING:
    from marc_core.recorded.config import ClockConfig
    from marc_core.types import VideoSource

ELSEWHERE = "elsewhere"
"""`clock_fingerprint` of a video whose address has changed since its clock was read."""
_RULES = 1
"""Raised when the rules of reading change, so that every clock is read again."""


def clock_fingerprint(config: ClockConfig) -> str:
    """Return what `videos.clock_fingerprint` is where a clock was read by this configuration."""
    return fingerprint(_RULES, config)


def recorded_row(
    source: VideoSource,
    *,
    sidecar: dt.datetime | None,
    tags: Mapping[str, str],
    duration_s: float,
    config: ClockConfig,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return (recorded_at, recorded_source, clock_tags and clock_fingerprint, warnings)."""
    found = find_recorded(source, sidecar=sidecar, tags=tags, duration_s=duration_s, config=config)
    row = {
        "recorded_at": found.at,
        "recorded_source": found.source,
        "clock_tags": json.dumps(dict(tags)) if tags else None,
        "clock_fingerprint": clock_fingerprint(config),
    }
    return row, found.warnings


def stored_tags(clock_tags: str | None) -> dict[str, str]:
    """Return the tags that `videos.clock_tags` holds."""
    return dict(json.loads(clock_tags)) if clock_tags else {}
