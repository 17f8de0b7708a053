"""Messages of the decoding child: a JSON header with array shapes, then the raw arrays.

    u32 length | JSON {"kind": ..., "arrays": [[name, dtype, shape], ...], ...} | array bytes ...

No pickle, no shared code beyond this file, nothing that a damaged video could make executable.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from marc_core.types import DecodeSummary, FrameChunk, VideoInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTH = struct.Struct("<I")
MAX_HEADER_BYTES = 1 << 20
"""A longer header is no message of ours."""

_DTYPES = {"uint8": np.uint8, "int64": np.int64, "float32": np.float32, "float64": np.float64}


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message; `fields` is plain JSON."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


def send(fd: int, kind: str, fields: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write one message to `fd`, blocking until the reader has room. Raises BrokenPipeError."""
    solid = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    shapes = [[name, a.dtype.name, list(a.shape)] for name, a in solid.items()]
    header = json.dumps({"kind": kind, "arrays": shapes, "fields": dict(fields)}).encode()
    _write_all(fd, memoryview(LENGTH.pack(len(header)) + header))
    for array in solid.values():
        if array.nbytes:
            _write_all(fd, array.data.cast("B"))


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def receive(read_into: Callable[[memoryview], None]) -> Message:
    """Return the next message; `read_into` fills the given memory or raises."""
    length = bytearray(LENGTH.size)
    read_into(memoryview(length))
    (size,) = LENGTH.unpack(length)
    assert size <= MAX_HEADER_BYTES, "the decoding child broke the protocol"
    header = bytearray(size)
    read_into(memoryview(header))
    parsed = json.loads(header)
    arrays = {}
    for name, dtype, shape in parsed["arrays"]:
        array = np.empty(shape, _DTYPES[dtype])
        if array.nbytes:
            read_into(array.data.cast("B"))
        arrays[name] = array
    return Message(kind=parsed["kind"], fields=parsed["fields"], arrays=arrays)


def chunk_fields(chunk: FrameChunk) -> dict[str, Any]:
    """Return what is no array of a chunk."""
    return {
        "sample_interval_s": chunk.sample_interval_s,
        "gaps": chunk.gaps,
        "num_errors": chunk.num_errors,
    }


def chunk_arrays(chunk: FrameChunk) -> dict[str, NDArray[Any]]:
    """Return the arrays of a chunk by field name."""
    return {
        "times_s": chunk.times_s,
        "shot_frames": chunk.shot_frames,
        "sampled_index": chunk.sampled_index,
        "sampled_frames": chunk.sampled_frames,
    }


def chunk_of(message: Message) -> FrameChunk:
    """Return the chunk that `chunk_fields` and `chunk_arrays` took apart."""
    fields = message.fields
    return FrameChunk(
        sample_interval_s=fields["sample_interval_s"],
        gaps=tuple((start_s, end_s) for start_s, end_s in fields["gaps"]),
        num_errors=fields["num_errors"],
        **message.arrays,
    )


def summary_fields(summary: DecodeSummary) -> dict[str, Any]:
    """Return a summary as plain JSON values."""
    return asdict(summary)


def summary_from_fields(fields: Mapping[str, Any]) -> DecodeSummary:
    """Return the summary that `summary_fields` wrote, before or after a way through JSON."""
    info = VideoInfo(**fields["info"])
    gaps = tuple((start_s, end_s) for start_s, end_s in fields["gaps"])
    return DecodeSummary(
        **{**fields, "info": info, "gaps": gaps, "warnings": tuple(fields["warnings"])}
    )
