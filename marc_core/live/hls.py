"""HLS, read by ourselves: FFmpeg's reader passes over EXT-X-PROGRAM-DATE-TIME and loses its place
when a connection breaks. By sequence numbers nothing is lost that the playlist still names.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from marc_core.errors import SourceError
from marc_core.live.addresses import check_allowed, without_secrets
from marc_core.live.config import SourceConfig, WatchConfig
from marc_core.live.readers import SourceDown

if TYPE_CHECKING:
    from marc_core.live.recording import Recording

DATE_TIME = "program_date_time"
_FIRST_PIECES = 3
"""Pieces before the live edge with which a first connection begins (RFC 8216, 6.3.3)."""


class HlsReader:
    """Follows the playlist of a live HLS source."""

    def __init__(self, source: SourceConfig, config: WatchConfig) -> None:
        import httpx2

        self._source, self._config = source, config
        self._client = httpx2.Client(
            timeout=httpx2.Timeout(config.stall_s, connect=config.open_timeout_s),
            follow_redirects=True,
            event_hooks={"request": [self._check]},
        )
        self._next: int | None = None
        self._map: tuple[str, bytes] | None = None
        self._playlist = source.address

    def _check(self, request: Any) -> None:
        check_allowed(str(request.url), self._config.allow)

    def read(self, recording: Recording, alive: Callable[[], None], stop: threading.Event) -> None:
        """Record until the playlist ends or cannot be had. Raises SourceDown."""
        import httpx2

        recording.connected()
        try:
            while not stop.is_set():
                playlist = self._load()
                alive()
                for piece in self._new(playlist, recording.until_s):
                    self._record_or_skip(piece, recording)
                    alive()
                    if stop.is_set():
                        return
                if playlist.is_endlist:
                    raise SourceDown("the playlist says that it has ended")
                stop.wait((playlist.target_duration or 2) / 2)
        except (httpx2.HTTPError, httpx2.InvalidURL, SourceError) as error:
            text = f"{type(error).__name__}: {error}"
            raise SourceDown(without_secrets(text, self._source.address)) from error

    def _load(self) -> Any:
        import m3u8

        text = self._get(self._playlist, self._config.max_playlist_bytes).decode("utf-8", "replace")
        if not text.lstrip("\ufeff").startswith("#EXTM3U"):
            raise SourceDown("what is there is no playlist")
        try:
            playlist = m3u8.loads(text, uri=self._playlist)
        except (ValueError, KeyError, AttributeError) as error:
            raise SourceDown(f"the playlist cannot be read: {error}") from error
        if not playlist.is_variant:
            return playlist
        best = max(playlist.playlists, key=lambda p: p.stream_info.bandwidth or 0)
        if best.absolute_uri == self._playlist:
            raise SourceDown("the playlist names itself as its variant")
        self._playlist = best.absolute_uri
        return self._load()

    def _new(self, playlist: Any, until_s: float | None) -> Iterator[Any]:
        """Yield the pieces that were not recorded yet, marking each as recorded."""
        pieces = list(playlist.segments)
        first = playlist.media_sequence or 0
        if self._next is not None and self._next > first + len(pieces):
            self._next = None  # the server began to count anew
        if self._next is None:
            self._next = first + self._first_new(pieces, until_s)
        skipped = max(0, self._next - first)
        self._next = max(self._next, first)
        for piece in pieces[skipped:]:
            yield piece
            self._next += 1

    def _first_new(self, pieces: list[Any], until_s: float | None) -> int:
        """Return where to begin: after what was recorded before, else near the live edge."""
        dates = [piece.current_program_date_time for piece in pieces]
        if until_s is not None and pieces and all(date is not None for date in dates):
            middles = [d.timestamp() + p.duration / 2 for d, p in zip(dates, pieces, strict=True)]
            if middles[0] <= until_s <= middles[-1] + 2 * pieces[-1].duration:
                return sum(middle < until_s for middle in middles)
        return max(0, len(pieces) - _FIRST_PIECES)

    def _record_or_skip(self, piece: Any, recording: Recording) -> None:
        """Record a piece; one that is gone, or damaged, is passed over: it would be again."""
        import av
        import httpx2

        try:
            self._record(piece, recording)
        except httpx2.HTTPStatusError as error:
            if error.response.status_code not in (404, 410):
                raise
            recording.connected("a piece of the playlist is gone")
        except (av.FFmpegError, ValueError) as error:
            recording.connected(f"a piece cannot be read ({type(error).__name__})")

    def _record(self, piece: Any, recording: Recording) -> None:
        import av

        if piece.key is not None and piece.key.method not in (None, "NONE"):
            raise SourceDown(f"it is encrypted ({piece.key.method}), which is not read")
        if piece.discontinuity:
            recording.connected("the playlist says that it does not go on")
        data = self._init(piece) + self._get(
            piece.absolute_uri, self._config.max_piece_bytes, piece.byterange
        )
        date = piece.current_program_date_time
        container: Any
        with av.open(io.BytesIO(data)) as container:
            video, audio = (container.streams.best(kind) for kind in ("video", "audio"))
            if video is None:
                raise SourceDown("it has no pictures")
            first_s: float | None = None
            for packet in container.demux([s for s in (video, audio) if s is not None]):
                wall_s = None
                if packet.stream is video and packet.pts is not None and date is not None:
                    stamp_s = float(packet.pts * packet.time_base)
                    first_s = stamp_s if first_s is None else first_s
                    wall_s = date.timestamp() + stamp_s - first_s
                recording.put(packet, wall_s=wall_s, clock=DATE_TIME)
        recording.ended()

    def _init(self, piece: Any) -> bytes:
        """Return the bytes that come before a piece of fragmented MP4."""
        if piece.init_section is None:
            return b""
        section = piece.init_section
        key = f"{section.absolute_uri} {section.byterange}"
        if self._map is None or self._map[0] != key:
            most = self._config.max_playlist_bytes
            self._map = (key, self._get(section.absolute_uri, most, section.byterange))
        return self._map[1]

    def _get(self, address: str, max_bytes: int, byterange: str | None = None) -> bytes:
        """Return what lies at an address. Raises SourceDown for more than `max_bytes`."""
        headers = {}
        if byterange:
            count, _, offset = byterange.partition("@")
            start = int(offset or 0)
            headers["Range"] = f"bytes={start}-{start + int(count) - 1}"
        parts, size = [], 0
        with self._client.stream("GET", address, headers=headers) as answer:
            answer.raise_for_status()
            for part in answer.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > max_bytes:
                    raise SourceDown(f"what it sends is larger than {max_bytes:,} bytes")
        return b"".join(parts)
