"""Further video streams of a file: known once it has been opened, each a video of its own.

`videos.num_streams` of a file's first stream keeps how many there are. A run with
`video.streams=all` takes up those that the memory knows of together with their files, and those
that it met on the way in a second turn; a stream that has its row is not done again.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from marc_core.types import VideoSource
from marc_core.video import stream_source


def with_further_streams(found: pa.Table, states: pa.Table) -> pa.Table:
    """Return the listed videos `found`, and after them the further streams of their files."""
    files = _with_streams(found, states)
    rows = []
    for row in files.to_pylist():
        source = VideoSource.from_json(row["source"])
        if source.stream:
            continue
        for stream in range(1, row["num_streams"]):
            further = stream_source(source, stream)
            rows.append({**row, "video_id": further.video_id, "source": further.to_json()})
    further = pa.Table.from_pylist(rows, schema=found.schema)
    new = further.filter(pc.invert(pc.is_in(further["video_id"], found["video_id"])))
    return pa.concat_tables([found, new])


def _with_streams(found: pa.Table, states: pa.Table) -> pa.Table:
    """Return the rows of `found` with `num_streams`, of files that are known to have several."""
    several = states.filter(pc.greater(states["num_streams"], 1))
    several = several.select(["video_id", "num_streams"])
    return found.filter(pc.is_in(found["video_id"], several["video_id"])).join(
        several, keys="video_id"
    )
