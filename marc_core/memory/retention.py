"""What is kept for a time, or within a number of bytes: which of it has to go."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from marc_core.feature_rows import tokens_a_row
from marc_core.memory.tables import Tables, scan

_ITEM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Something that is kept. key: names it. since: from when on. size_bytes: what it takes."""

    key: str
    since: dt.datetime
    size_bytes: int


def to_go(
    kept: Iterable[Kept], now: dt.datetime, *, keep_days: float, keep_bytes: int
) -> dict[str, str]:
    """Return what has to go, and why, by key: what is older than `keep_days`, and of the rest the
    oldest until all together take at most `keep_bytes`. 0 is no limit."""
    going: dict[str, str] = {}
    by_age = sorted(kept, key=lambda item: (item.since, item.key))
    left_bytes = sum(item.size_bytes for item in by_age)
    for item in by_age:
        is_old = keep_days > 0 and item.since < now - dt.timedelta(days=keep_days)
        if is_old or 0 < keep_bytes < left_bytes:
            going[item.key] = f"older than {keep_days:g} days" if is_old else "too many bytes"
            left_bytes -= item.size_bytes
    return going


def kept_videos(tables: Tables) -> tuple[list[Kept], dict[str, str]]:
    """Return the memory's videos, and their addresses by id. size_bytes: of features and vectors,
    which are most of what a video takes."""
    rows = scan(tables.videos, ["video_id", "uri", "num_events", "indexed_at"]).to_pylist()
    features = feature_bytes(tables.features)
    vector_bytes = 4 * tables.meta.embedding_dim
    videos = [
        Kept(
            key=row["video_id"],
            since=row["indexed_at"],
            size_bytes=features.get(row["video_id"], 0) + vector_bytes * (row["num_events"] or 0),
        )
        for row in rows
    ]
    return videos, {row["video_id"]: row["uri"] for row in rows}


def feature_bytes(features: Any) -> dict[str, int]:
    """Return the bytes of stored features by video, from their shapes: the data is not read."""
    shape = ["layout", "num_layers", "num_rows", "grid_h", "grid_w", "dim", "dtype"]
    total: dict[str, int] = {}
    for video_id, layout, layers, rows, h, w, dim, dtype in zip(
        *scan(features, ["video_id", *shape]).to_pydict().values(), strict=True
    ):
        size = layers * rows * tokens_a_row(layout, h, w) * dim * _ITEM_BYTES[dtype]
        total[video_id] = total.get(video_id, 0) + size
    return total
