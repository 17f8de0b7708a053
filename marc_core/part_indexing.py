"""A long recording's way into the memory, part by part, as plain functions.

    path --IsolatedDecoder.lay_out--> Layout --plan_rows--> rows of `videos` and `parts`
    part --decode_part--> SeenPart --encode_part--> its rows of `parts`, `events`, `texts` and
                                                    `features`
         whatever fails --failed_part--> its row of `parts`: a gap, with its reason

What `marc_core.indexing` does for a video, this does for a part of one.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from marc_core import schemas
from marc_core.config import IndexConfig
from marc_core.fingerprints import Fingerprints, fingerprints_of
from marc_core.indexing import DecodedVideo, encode_events
from marc_core.recorded.rows import recorded_row
from marc_core.types import VideoSource
from marc_core.video.parts import Part
from marc_core.video_rows import (
    QUARANTINED_KINDS,
    base_row,
    info_columns,
    sidecar_columns,
    with_own_word,
)

if TYPE_CHECKING:
    from marc_core.embed import DualEncoder
    from marc_core.models.vision_tower import VisionTower
    from marc_core.part_decoding import SeenPart
    from marc_core.recorded.config import ClockConfig
    from marc_core.text import Sidecar
    from marc_core.video.parts import Layout


@dataclass(frozen=True, kw_only=True, slots=True)
class PartWork:
    """A part to do. end_s: of the whole video, which starts at `part.video_start_s`."""

    part: Part
    count: int
    end_s: float

    @property
    def seconds(self) -> float:
        """How long the whole video is."""
        return self.end_s - self.part.video_start_s

    def to_json(self) -> str:
        """Return JSON for `from_json`."""
        return json.dumps([json.loads(self.part.to_json()), self.count, self.end_s])

    @classmethod
    def from_json(cls, text: str) -> PartWork:
        """Return what `to_json` wrote."""
        part, count, end_s = json.loads(text)
        return cls(part=Part(**part), count=count, end_s=end_s)


def plan_rows(
    source: VideoSource,
    layout: Layout,
    sidecar: Sidecar,
    content_digest: str,
    fingerprints: Fingerprints,
    attempts: int,
    clock: ClockConfig,
) -> tuple[pa.Table, pa.Table]:
    """Return the row of `videos` of a recording that is to be indexed in parts, and its parts."""
    info, count = layout.info, len(layout.parts)
    start_s = layout.parts[0].video_start_s
    recorded, doubts = recorded_row(
        source,
        sidecar=sidecar.recorded_at,
        tags=info.clock_tags,
        duration_s=layout.end_s - start_s,
        config=clock,
    )
    video = base_row(source, attempts, fingerprints) | {
        **info_columns(info),
        "decode_backend": "pyav",
        "decode_reason": decode_reason(layout.doubt),
        **sidecar_columns(with_own_word(sidecar, info)),
        "content_digest": content_digest,
        **recorded,
        "start_s": start_s,
        "duration_s": layout.end_s - start_s,
        "status": schemas.FAILED,
        "error_class": schemas.PARTS_MISSING,
        "error_message": f"{count} of its {count} parts are missing. Rerun to go on.",
        "num_events": 0,
        "num_parts": count,
        "texts_fingerprint": sidecar.fingerprint,
        "warnings": [*layout.warnings, *sidecar.warnings, *doubts],
    }
    rows = []
    for part in layout.parts:
        work = PartWork(part=part, count=count, end_s=layout.end_s)
        rows.append(_part_row(source.video_id, work, fingerprints, 0) | {"status": schemas.PLANNED})
    return (
        pa.Table.from_pylist([video], schema=schemas.VIDEOS),
        pa.Table.from_pylist(rows, schema=schemas.PARTS),
    )


def decode_reason(doubt: str | None) -> str:
    """Return what a recording's row says of how it is decoded."""
    return "in parts" if doubt is None else f"in parts of one pass: {doubt}"


def _part_row(
    video_id: str, work: PartWork, fingerprints: Fingerprints, attempts: int
) -> dict[str, Any]:
    part = work.part
    start_s = part.video_start_s
    return {
        "part_id": schemas.make_part_id(video_id, part.number),
        "video_id": video_id,
        "part": part.number,
        "plan": work.to_json(),
        "from_s": 0.0 if part.from_s is None else part.from_s - start_s,
        "to_s": (work.end_s if part.to_s is None else part.to_s) - start_s,
        "attempts": attempts,
        **fingerprints.columns(),
        "updated_at": dt.datetime.now(dt.UTC),
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedPart:
    """The rows of one part, by table; `features` is None when they are not stored."""

    parts: pa.Table
    events: pa.Table
    texts: pa.Table
    features: pa.Table | None


def encode_part(
    source: VideoSource,
    work: PartWork,
    seen: SeenPart,
    sidecar: Sidecar,
    *,
    config: IndexConfig,
    encoder: DualEncoder,
    tower: VisionTower | None,
    attempts: int,
) -> IndexedPart:
    """Embed a part's sampled frames, cut it into events and return all of its rows."""
    start_s, number = work.part.video_start_s, work.part.number
    sidecar = sidecar.on_clock_of(start_s, work.end_s)
    sidecar = with_own_word(sidecar, seen.summary.info)
    fingerprints = fingerprints_of(
        config, encoder.fingerprint, tower.fingerprint if tower else None
    )
    recorded, _ = recorded_row(
        source,
        sidecar=sidecar.recorded_at,
        tags=seen.summary.info.clock_tags,
        duration_s=work.seconds,
        config=config.clock,
    )
    rows = encode_events(
        source,
        _decoded(seen),
        sidecar,
        recorded["recorded_at"],
        config=config,
        encoder=encoder,
        tower=tower,
        part=number,
        video_start_s=start_s,
    )
    end_s = work.part.to_s
    if end_s is None or seen.part.to_s is None:
        end_s = seen.summary.end_s
    row = _part_row(source.video_id, work, fingerprints, attempts) | {
        "status": schemas.INDEXED,
        "to_s": end_s - start_s,
        "num_events": rows.events.num_rows,
        "num_frames": seen.summary.num_frames,
        "num_decode_errors": seen.summary.num_errors,
        "warnings": list(seen.summary.warnings),
        "head": seen.head,
        "tail": seen.tail,
    }
    return IndexedPart(
        parts=pa.Table.from_pylist([row], schema=schemas.PARTS),
        events=rows.events,
        texts=rows.texts,
        features=rows.features,
    )


def _decoded(seen: SeenPart) -> DecodedVideo:
    """Return a part as what `indexing` encodes. The digest is the whole file's, in its row."""
    return DecodedVideo(
        summary=seen.summary,
        content_digest="",
        times_s=seen.times_s,
        shot_scores=seen.shot_scores,
        dark=seen.dark,
        sampled_index=seen.sampled_index,
        sampled_frames=seen.sampled_frames,
        span=seen.span,
    )


def failed_part(
    source: VideoSource,
    work: PartWork,
    failure: Mapping[str, Any],
    *,
    attempts: int,
    max_attempts: int,
    fingerprints: Fingerprints,
) -> pa.Table:
    """Return the row of a part that could not be indexed, with its reason."""
    quarantined = failure["kind"] in QUARANTINED_KINDS and attempts >= max_attempts
    row = _part_row(source.video_id, work, fingerprints, attempts) | {
        "status": schemas.QUARANTINED if quarantined else schemas.FAILED,
        "error_class": failure["kind"],
        "error_message": failure["message"][:2000],
    }
    return pa.Table.from_pylist([row], schema=schemas.PARTS)
