"""What is computed of indexed events, computed anew without a new cut, as plain functions.

    rows of `events` --read_event_frames--> EventFrames --feature_rows----> rows of `features`
                         (CPU: one pass                 `-embedding_rows--> vectors of another
                         over the file)    (GPU or CPU)                     encoder, to be staged

They are split where the hardware changes. The frames are those that the events show, read at the
times that the memory holds, so the results equal those of indexing with the same models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from marc_core import indexing, schemas
from marc_core.config import MethodConfig
from marc_core.digest import frames_digest
from marc_core.frame_cap import cap_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.embed import DualEncoder
    from marc_core.models.vision_tower import VisionTower
    from marc_core.video import IsolatedDecoder


@dataclass(frozen=True, kw_only=True, slots=True)
class EventFrames:
    """The frames of a video's events.

    owners: (event_id, video_id) of each event. times_s: (F,) of each event's frames.
    frames_SHWC: (S, H, W, 3) uint8 RGB of all events, one after the other.
    """

    owners: Sequence[tuple[str, str]]
    times_s: Sequence[NDArray[np.float64]]
    frames_SHWC: NDArray[np.uint8]

    def split(self, values_S: NDArray[Any]) -> list[NDArray[Any]]:
        """Return what belongs to each event of an array with one entry a frame."""
        return np.split(values_S, np.cumsum([len(times) for times in self.times_s])[:-1])


def read_event_frames(
    path: str,
    events: Sequence[Mapping[str, Any]],
    *,
    decoder: IsolatedDecoder,
    max_frames: int | None = None,
    stream: int = 0,
    repaired: bool | None = None,
) -> EventFrames:
    """Read the frames of indexed events again, in one pass over `path`.

    events: rows of `events` of one video with event_id, video_id and frame_times_s. max_frames:
    frames of an event at most, evenly spread; None: all. repaired: as of `read_frames`. Raises
    the VideoError of a file that cannot be decoded or has no frame at a stored time.
    """
    times_s = [np.asarray(event["frame_times_s"], np.float64) for event in events]
    if max_frames is not None:
        times_s = [cap_frames(times, max_frames) for times in times_s]
    frames = decoder.read_frames(
        path, np.concatenate(times_s).tolist(), stream=stream, repaired=repaired
    )
    owners = [(event["event_id"], event["video_id"]) for event in events]
    return EventFrames(owners=owners, times_s=times_s, frames_SHWC=np.stack(frames))


def feature_rows(read: EventFrames, tower: VisionTower, config: MethodConfig) -> pa.Table:
    """Return the FEATURES rows of events, as `encode_video` makes them."""
    pairs = zip(read.split(read.frames_SHWC), read.times_s, strict=True)
    return indexing.feature_rows(read.owners, pairs, tower, config)


def embedding_rows(read: EventFrames, encoder: DualEncoder) -> pa.Table:
    """Return rows of schemas.embeddings_schema, their vectors as `encode_video` makes them.

    All frames of the events must be there: the vector is the mean direction of all.
    """
    vectors = map(indexing.event_embedding, read.split(encoder.encode_images(read.frames_SHWC)))
    rows = [
        {
            "event_id": event_id,
            "video_id": video_id,
            "fingerprint": encoder.fingerprint,
            "frames_digest": frames_digest(times_F),
            "embedding": vector_D,
        }
        for (event_id, video_id), times_F, vector_D in zip(
            read.owners, read.times_s, vectors, strict=True
        )
    ]
    return pa.Table.from_pylist(rows, schema=schemas.embeddings_schema(encoder.dim))
