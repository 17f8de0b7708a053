"""Decoding in a child process: a file that makes a decoder loop or crash costs that file only.

    IsolatedDecoder --stdin: JSON line--> child (marc_core.video.child)
                    <--data pipe: wire messages--   (a full pipe makes the child wait)
                    <--stderr: last line kept--

One child serves many videos, one at a time. It is killed when it stalls, passes its deadline, or
when a video is left before its end; the next request starts a fresh one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from marc_core import errors
from marc_core.errors import DecoderCrashError, DecodeTimeoutError, VideoError
from marc_core.filenames import shown
from marc_core.types import DecodeSummary, FrameChunk, SoundBlock, VideoInfo
from marc_core.video import wire
from marc_core.video.parts import Layout, Part
from marc_core.video.process import Child

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from marc_core.config import EventConfig, VideoConfig
    from marc_core.video.pictures import Stretch

CHILD_COMMAND = (sys.executable, "-P", "-m", "marc_core.video.child")


class IsolatedDecoder:
    """Owns the decoding child. Use as a context manager, from one thread.

    with IsolatedDecoder(config) as decoder:
        with decoder.open(path) as stream:
            for chunk in stream: ...
        stream.summary
    """

    def __init__(self, config: VideoConfig, *, command: Sequence[str] = CHILD_COMMAND) -> None:
        self._config = config
        self._command = tuple(command)
        self._child: Child | None = None

    def __enter__(self) -> IsolatedDecoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    @property
    def child_pid(self) -> int | None:
        """Process id of the present child, for monitoring."""
        return None if self._child is None else self._child.pid

    def open(self, path: str | Path, *, stream: int = 0, part: Part | None = None) -> DecodeStream:
        """Start decoding a video stream of `path`, or one part of it and what lies around that;
        returns once the child has opened it.

        Raises UnreadableVideoError, EmptyVideoError, VideoLimitError, DecodeTimeoutError,
        DecoderCrashError; iteration over the stream can raise them too.
        """
        asked = {"stream": stream, "part": None if part is None else part.to_json()}
        child = self._request("decode", path, asked)
        message = self._receive(child, path)
        assert message.kind == "info", message.kind
        return DecodeStream(self, child, path, VideoInfo(**message.fields))

    def lay_out(
        self, path: str | Path, part_s: float, events: EventConfig, *, stream: int = 0
    ) -> Layout | None:
        """`parts.lay_out` in the child; raises what `open` raises."""
        asked = {"part_s": part_s, "events": asdict(events), "stream": stream}
        child = self._request("lay_out", path, asked)
        message = self._receive(child, path)
        assert message.kind == "end", message.kind
        layout = message.fields["layout"]
        return None if layout is None else Layout.from_json(layout)

    def read_frames(
        self,
        path: str | Path,
        times_s: Sequence[float],
        *,
        stream: int = 0,
        repaired: bool | None = None,
        part: Part | None = None,
    ) -> list[NDArray[np.uint8]]:
        """`marc_core.video.read_frames` in the child; raises what `open` raises."""
        lies_in = None if part is None else part.to_json()
        asked = {"stream": stream, "repaired": repaired, "part": lies_in}
        return self._frames("read", path, times_s, asked)

    def follow_frames(
        self, path: str | Path, times_s: Sequence[float], *, stream: int = 0
    ) -> list[NDArray[np.uint8]]:
        """`exact.Following` in the child: frames of a file that cannot be sought, by a pass that
        later calls with later times go on with; raises what `open` raises."""
        return self._frames("follow", path, times_s, {"stream": stream})

    def _frames(
        self, op: str, path: str | Path, times_s: Sequence[float], asked: dict[str, Any]
    ) -> list[NDArray[np.uint8]]:
        times = [float(t) for t in times_s]
        child = self._request(op, path, {**asked, "times_s": times})
        found: dict[float, NDArray[np.uint8]] = {}
        while (message := self._receive(child, path)).kind != "end":
            assert message.kind == "frames", message.kind
            arrays = message.arrays
            found |= zip(arrays["times_s"].tolist(), arrays["frames"], strict=True)
        return [found[time_s] for time_s in times]

    def pictures(
        self,
        path: str | Path,
        stretches: Sequence[Stretch],
        *,
        stream: int = 0,
        repaired: bool | None = None,
    ) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
        """`marc_core.video.pictures.find_pictures` in the child; raises what `open` raises.

        One picture is in memory at a time. Leaving before the end kills the child.
        """
        asked = {"stretches": [[*s] for s in stretches], "stream": stream, "repaired": repaired}
        child = self._request("pictures", path, asked)
        try:
            while (message := self._receive(child, path)).kind != "end":
                assert message.kind == "picture", message.kind
                fields = message.fields
                yield fields["number"], fields["time_s"], message.arrays["frame"]
        finally:
            if not child.idle:
                self.close()

    def sound(
        self,
        path: str | Path,
        *,
        stream: int = 0,
        repaired: bool = False,
        until_s: float | None = None,
    ) -> Iterator[SoundBlock]:
        """Yield what `marc_core.video.audio.sound_blocks` yields, from the child.

        Raises what it raises, DecodeTimeoutError and DecoderCrashError. What the caller does with
        a block does not count towards the deadline. Left before its end, it kills the child.
        """
        asked = {"stream": stream, "repaired": repaired, "until_s": until_s}
        child = self._request("sound", path, asked)
        try:
            while (message := self._receive(child, path)).kind != "end":
                assert message.kind == "sound", message.kind
                fields, samples = message.fields, message.arrays["samples"]
                given_s = time.monotonic()
                yield SoundBlock(start_s=fields["start_s"], joins=fields["joins"], samples=samples)
                child.deadline_s += time.monotonic() - given_s
        finally:
            if not child.idle:
                self.close()

    def _request(self, op: str, path: str | Path, fields: dict[str, Any]) -> Child:
        if self._child is None or not self._child.idle or not self._child.alive:
            self.close()
            self._child = Child(self._command)
        child = self._child
        child.idle = False
        child.deadline_s = time.monotonic() + self._config.deadline_per_video_s
        request = {"op": op, "path": os.fspath(path), "config": asdict(self._config), **fields}
        child.send(json.dumps(request))
        return child

    def _receive(self, child: Child, path: str | Path) -> wire.Message:
        """Return the next message that is not a sign of life; settle the child's fate."""
        try:
            message = self._next_message(child, path)
        except BaseException:
            self.close()
            raise
        if message.kind in ("summary", "end", "error"):
            child.idle = True
        if message.kind == "error":
            raise _error_from(message)
        return message

    def _next_message(self, child: Child, path: str | Path) -> wire.Message:
        stall_s = self._config.stall_timeout_s

        def read_into(view: memoryview) -> None:
            try:
                child.read_into(view, stall_s)
            except TimeoutError:
                raise DecodeTimeoutError(self._timeout_text(child, path)) from None
            except EOFError:
                raise DecoderCrashError(
                    f"The decoder died on '{shown(path)}': {child.cause_of_death()}."
                ) from None

        while (message := wire.receive(read_into)).kind == "alive":
            pass
        return message

    def _timeout_text(self, child: Child, path: str | Path) -> str:
        if time.monotonic() >= child.deadline_s:
            limit = self._config.deadline_per_video_s
            return (
                f"Decoding '{shown(path)}' took longer than {limit:g} s. Raise "
                "video.deadline_per_video_s if the video is sound."
            )
        return (
            f"The decoder gave no frame of '{shown(path)}' for {self._config.stall_timeout_s:g} s. "
            "Raise video.stall_timeout_s if the machine or the storage is that slow."
        )


class DecodeStream:
    """Chunks of one video from the child. Iterate once, inside `with`."""

    def __init__(
        self, owner: IsolatedDecoder, child: Child, path: str | Path, info: VideoInfo
    ) -> None:
        self.info = info
        self._owner, self._child, self._path = owner, child, path
        self._summary: DecodeSummary | None = None
        self._ended = False

    def __enter__(self) -> DecodeStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the video; before its end this kills the child (a start costs little)."""
        if not self._ended:
            self._ended = True
            self._owner.close()

    def extend_deadline(self) -> None:
        """Let `deadline_per_video_s` count from now: a part of the video is done."""
        self._child.deadline_s = time.monotonic() + self._owner._config.deadline_per_video_s

    @property
    def summary(self) -> DecodeSummary:
        """What is known after the last frame; asking earlier is a mistake of the caller."""
        assert self._summary is not None, "read every chunk before asking for the summary"
        return self._summary

    def __iter__(self) -> Iterator[FrameChunk]:
        while not self._ended:
            try:
                message = self._owner._receive(self._child, self._path)
            except VideoError as error:
                self._ended = True
                error.num_streams = self.info.num_streams
                raise
            if message.kind == "summary":
                self._summary = wire.summary_from_fields(message.fields)
                self._ended = True
                return
            yield wire.chunk_of(message)


def _error_from(message: wire.Message) -> VideoError:
    kind = getattr(errors, message.fields["type"])
    assert issubclass(kind, VideoError)
    error = kind(message.fields["message"])
    assert isinstance(error, VideoError)
    error.num_streams = message.fields.get("num_streams")
    return error
