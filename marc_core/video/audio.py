"""The sound of a video, decoded by PyAV: one channel at 16 kHz, with times on the video's clock.

    packets of sound -> decoder -> Anchors: when does it sound? -> resampler -> SoundBlock, ...
    packets of pictures (only where the video's clock was repaired: their stamps say how) -> Seams

Pictures and sound share the container's clock, so a stamp of sound is its time: sound that starts
late, edit lists, gaps and negative starts need nothing. Where the video's own stamps were not
believed (`clock.repaired_by`), sound is moved by what moved the pictures around it.

In-process, in bounded memory; pipelines use `IsolatedDecoder.sound`, which runs this in a child.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from marc_core.errors import UnreadableVideoError
from marc_core.filenames import shown
from marc_core.types import SOUND_RATE, SoundBlock
from marc_core.video.anchors import Anchors
from marc_core.video.encryption import check_packet
from marc_core.video.pyav import open_container, video_stream
from marc_core.video.seams import Seams, find_seams
from marc_core.video.wrap import Unwrap, wrap_after_s

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.stream import Stream
    from numpy.typing import NDArray

BLOCK_SAMPLES = SOUND_RATE
"""Samples handed over at a time (our choice: one second, 64 KB)."""
_MAX_ERRORS = 100
"""Packets in a row that cannot be read, after which a file has ended (as for pictures)."""


def sound_blocks(
    path: str | Path,
    *,
    stream: int = 0,
    repaired: bool = False,
    until_s: float | None = None,
    on_packet: Callable[[], None] | None = None,
) -> Iterator[SoundBlock]:
    """Yield the sound that belongs to the video stream number `stream`; nothing where none is.

    repaired: whether the video's clock was repaired (`clock.repaired_by` of its warnings): then the
    packets of the whole file are read once more before. until_s: nothing is read far beyond this
    time. `on_packet` is called for each packet. Packets that cannot be decoded are left out. Raises
    UnreadableVideoError.
    """
    name = str(path)
    if not has_sound(name, stream):
        return
    seams = find_seams(name, stream=stream, on_packet=on_packet) if repaired else Seams()
    with open_container(name) as container:
        sound = _sound_stream(name, container, stream)
        assert sound is not None
        frames = _frames(name, container, sound, with_pictures=repaired, on_packet=on_packet)
        timed = _timed(frames, container, sound, seams)
        yield from _resampled(timed, until_s)


def has_sound(path: str | Path, stream: int = 0) -> bool:
    """Return whether a sound belongs to the video stream `stream`; decodes nothing.

    Raises UnreadableVideoError.
    """
    with open_container(str(path)) as container:
        return _sound_stream(str(path), container, stream) is not None


def _sound_stream(path: str, container: InputContainer, stream: int) -> AudioStream | None:
    """Return the sound that players play to this video stream (of its programme, not a comment)."""
    if not container.streams.audio:
        return None
    pictures = video_stream(path, container, stream)
    found = container.streams.best("audio", related=pictures)
    sound: Any = found if found is not None else container.streams.audio[0]
    if sound.codec_context is None:
        raise UnreadableVideoError(
            f"'{shown(path)}': this build has no decoder for the codec of its sound."
        )
    sound.codec_context.thread_count = 1
    return sound  # type: ignore[no-any-return]


def _frames(
    path: str,
    container: InputContainer,
    sound: AudioStream,
    *,
    with_pictures: bool,
    on_packet: Callable[[], None] | None,
) -> Iterator[tuple[int, AudioFrame]]:
    """Yield (number of its packet among those of pictures and sound, frame).

    Where numbers do not matter, containers with an index skip the pictures unread.
    """
    if not with_pictures:
        _discard_all_but(container, sound)
    errors, number = 0, 0
    while errors < _MAX_ERRORS:
        try:
            for packet in container.demux():
                if on_packet is not None:
                    on_packet()
                number += packet.stream.type in ("video", "audio")
                if packet.stream != sound:
                    continue
                check_packet(path, packet)
                for frame in _decoded(packet):
                    errors = 0
                    yield number, frame
            return
        except av.error.EOFError:
            return
        except av.FFmpegError:
            errors += 1


def _discard_all_but(container: InputContainer, kept: Stream) -> None:
    for stream in container.streams:
        if stream != kept:
            stream.discard = av.stream.Discard.all


def _decoded(packet: Any) -> list[AudioFrame]:
    try:
        return list(packet.decode())
    except av.FFmpegError:
        return []


def _timed(
    frames: Iterator[tuple[int, AudioFrame]],
    container: InputContainer,
    sound: AudioStream,
    seams: Seams,
) -> Iterator[tuple[float, bool, AudioFrame]]:
    """Yield (time on the video's clock, whether it joins the frame before, frame)."""
    tick = sound.time_base
    unwrap = Unwrap(wrap_after_s(container.format.name, None if tick is None else float(tick)))
    anchors: Anchors[AudioFrame] = Anchors()
    for number, frame in frames:
        if not frame.samples or not frame.sample_rate:
            continue
        stamp_s = unwrap(frame.time)
        if stamp_s is not None:
            stamp_s = seams.time_of(stamp_s, number)
        yield from anchors.push(stamp_s, frame.samples / frame.sample_rate, frame)
    yield from anchors.finish()


def _resampled(
    timed: Iterator[tuple[float, bool, AudioFrame]], until_s: float | None
) -> Iterator[SoundBlock]:
    piece: _Piece | None = None
    for time_s, joins, frame in timed:
        if until_s is not None and time_s > until_s:
            break
        if piece is None or not joins or not piece.takes(frame):
            if piece is not None:
                yield from piece.finish()
            piece = _Piece(time_s, frame)
        yield from piece.add(frame)
    if piece is not None:
        yield from piece.finish()


class _Piece:
    """Sound without a break, in one format: resampled as a whole."""

    def __init__(self, start_s: float, first: AudioFrame) -> None:
        self._start_s, self._format = start_s, _format_of(first)
        self._resampler = AudioResampler(format="flt", layout="mono", rate=SOUND_RATE)
        self._held: list[NDArray[np.float32]] = []
        self._held_count = 0
        self._count = 0

    @property
    def seconds(self) -> float:
        """How much of it was handed over."""
        return self._count / SOUND_RATE

    def takes(self, frame: AudioFrame) -> bool:
        """Return whether a frame is of this piece's format."""
        return _format_of(frame) == self._format

    def add(self, frame: AudioFrame) -> Iterator[SoundBlock]:
        """Take the next frame; yield what it completes."""
        frame.pts = None  # times are ours; the resampler would warn of jitter
        self._take(self._resampler.resample(frame))
        while self._held_count >= BLOCK_SAMPLES:
            yield self._block(BLOCK_SAMPLES)

    def finish(self) -> Iterator[SoundBlock]:
        """Yield what is still held."""
        self._take(self._resampler.resample(None))
        while self._held_count:
            yield self._block(min(self._held_count, BLOCK_SAMPLES))

    def _take(self, frames: list[AudioFrame]) -> None:
        for frame in frames:
            samples = frame.to_ndarray().reshape(-1).astype(np.float32, copy=False)
            samples = np.nan_to_num(samples, posinf=1.0, neginf=-1.0)
            self._held.append(np.clip(samples, -1.0, 1.0))
            self._held_count += len(samples)

    def _block(self, count: int) -> SoundBlock:
        """Return the first samples held."""
        held = self._held[0] if len(self._held) == 1 else np.concatenate(self._held)
        start_s, joins = self._start_s + self.seconds, self._count > 0
        self._held, self._held_count = [held[count:]], len(held) - count
        self._count += count
        return SoundBlock(start_s=start_s, samples=held[:count], joins=joins)


def _format_of(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
