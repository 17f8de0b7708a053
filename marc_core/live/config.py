"""The configuration of `marc watch`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from marc_core.bounds import number
from marc_core.config import IndexConfig
from marc_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One source that is watched."""

    address: str = ""
    """rtsp://, http://.../live.m3u8 or whatever else FFmpeg reads; a folder or bucket prefix."""
    camera: str = ""
    """Name of the camera, for filters; empty means the source's id."""
    tags: tuple[str, ...] = ()
    """Tags of all its videos, beside `source:<id>`."""
    kind: Literal["auto", "hls", "stream", "folder"] = "auto"
    """How it is read. auto: `.m3u8` is hls, paths and buckets are folders, all else is a stream."""
    mtime: Literal["ignore", "start", "end"] = "end"
    """What the time of change of a folder's files means, where nothing else says when they were
    recorded (docs/footage.md, the wall clock). end: a recorder writes last when it ends."""
    options: dict[str, str] = field(default_factory=dict)
    """Options of FFmpeg for a stream (rtsp_transport, ...), and `format` where it cannot tell."""


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """How live sources are recorded and how long that is kept."""

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    """Sources by id. Ids name folders and tags: letters, digits, - and _."""
    folder: str = "runs/live"
    """Where recordings go, a folder a source. They are the videos that answers cite."""
    allow: tuple[str, ...] = (
        "rtsp://*", "rtsps://*", "http://*", "https://*", "rtmp://*", "rtmps://*", "srt://*",
        "udp://*", "rtp://*", "tcp://*",
    )  # fmt: skip
    """Patterns of scheme://host that may be read, also by what a playlist or a redirection names.
    The default keeps files and FFmpeg's tricks (concat:, file:) out; name hosts to be strict."""
    segment_s: float = number(5.0, above=0, most=600)
    """Seconds of a segment, cut at the next keyframe. A segment is searchable when it is closed and
    indexed, so this is most of the delay; no event is longer (our choice: with keyframes every 2 s
    all is found within 10 s)."""
    max_playlist_bytes: int = number(4 << 20, least=1)
    """Larger playlists are refused (our choice)."""
    max_piece_bytes: int = number(256 << 20, least=1)
    """Larger segments of a playlist are refused (our choice: held in memory while copied)."""
    open_timeout_s: float = number(10.0, above=0)
    """Seconds for a connection (our choice)."""
    stall_s: float = number(15.0, above=0)
    """No packet for this long: the connection is made anew (our choice)."""
    retry_first_s: float = number(0.5, above=0)
    """First pause before connecting again; doubled each time, times 0.5 - 1.5 by chance, so that
    many recorders do not come back at once (our choice)."""
    retry_most_s: float = number(30.0, above=0)
    """Longest such pause (our choice)."""
    gap_s: float = number(1.0, above=0)
    """Shorter holes in a source's time are not recorded as gaps (our choice)."""
    jump_s: float = number(2.0, above=0)
    """Timestamps, or the source's clock, that move so much more or less than the pictures begin a
    new segment (our choice)."""
    texts_waiting: int = number(32, least=1)
    """Videos that wait for their texts at most (our choice). Events never wait for texts: where the
    recogniser is too slow, the oldest are put off until there is nothing else to do."""
    stable_s: float = number(5.0, least=0)
    """A file in a watched folder is taken when size and time of change have stayed so long."""
    poll_s: float = number(1.0, above=0)
    """Between two looks at a folder; longer where a look takes more than a tenth of it."""
    keep_days: float = number(0.0, least=0)
    """Days that recordings are kept, with all that was made of them; 0: no limit. What MARC has
    not recorded itself is never touched."""
    keep_bytes: int = number(0, least=0)
    """Bytes of recordings, features and vectors together above which the oldest go; 0: no limit."""
    collect_s: float = number(60.0, above=0)
    """Between two looks at what has to go (our choice)."""
    end_s: float = number(60.0, above=0)
    """Seconds after the first Ctrl-C for closing segments and indexing them (our choice); what is
    left is taken up at the next start."""


@dataclass(frozen=True, kw_only=True)
class WatchJobConfig(IndexConfig):
    """`marc watch`: live and growing sources into a memory, until it is stopped."""

    watch: WatchConfig = field(default_factory=WatchConfig)
    """Sources, recording and retention."""

    def __post_init__(self) -> None:
        """Raise ConfigError where two values contradict each other."""
        super().__post_init__()
        if self.watch.retry_most_s < self.watch.retry_first_s:
            raise ConfigError(
                "watch.retry_most_s must be at least watch.retry_first_s. Got "
                f"{self.watch.retry_most_s} and {self.watch.retry_first_s}."
            )
