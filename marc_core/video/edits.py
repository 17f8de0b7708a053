"""Edit lists of mp4 and mov: which frames of a track players show (ISO 14496-12, `elst`).

FFmpeg leaves frames that no edit shows out of its index, so the index tells. An edit of length 0
means "to the end" in files that were written piece by piece, but FFmpeg then shows nothing: such
files are opened without the list.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.video.stream import VideoStream

_SAID_FROM = 0.1
"""Share of hidden frames from which a person is told (our choice: more than the lead-in of a cut
to the next picture that decodes by itself)."""

WITHOUT = {"advanced_editlist": "0"}
"""Options with which the demuxer shows every frame of a track."""


def hide_all(streams: Iterable[VideoStream]) -> bool:
    """Return whether the edit list of one of the streams is of length 0 and so shows nothing."""
    return any(s.frames and not s.duration and _num_hidden(s) == s.frames for s in streams)


def warnings(stream: VideoStream) -> tuple[str, ...]:
    """Return what to say of frames of a stream that are not shown; () where it is nothing."""
    hidden = _num_hidden(stream)
    if hidden <= _SAID_FROM * stream.frames:
        return ()
    return (f"The file's edit list hides {hidden} of {stream.frames} frames, as in players.",)


def _num_hidden(stream: VideoStream) -> int:
    """Return how many frames of a track are not shown; 0 for containers without edit lists."""
    if not stream.container.format.name.startswith("mov"):
        return 0
    shown = sum(not entry.is_discard for entry in stream.index_entries)
    return max(0, stream.frames - shown)
