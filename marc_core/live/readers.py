"""Reading a source until it ends, breaks or is stopped: packets go to a Recording.

A reader returns or raises SourceDown when the source gives nothing any more; who calls it decides
about the next connection.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from marc_core.live.addresses import without_secrets
from marc_core.live.config import SourceConfig, WatchConfig

if TYPE_CHECKING:
    from av import Packet

    from marc_core.live.recording import Recording

RTCP = "rtcp"
_FIRST_YEAR_S = 946_684_800.0
"""Clocks that say a time before 2000 were never set, and do not count."""
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,rtcp,udp,tcp", "rtsps": "rtsps,rtsp,rtp,rtcp,srtp,tls,tcp,udp",
    "http": "http,tcp", "https": "https,tls,tcp", "rtmp": "rtmp,tcp", "rtmps": "rtmps,tls,tcp",
    "rtp": "rtp,udp,rtcp", "udp": "udp", "tcp": "tcp", "srt": "srt",
}  # fmt: skip
"""What FFmpeg may open by scheme: a hostile server must not lead it to files."""


class SourceDown(Exception):
    """A source gives nothing any more; the text says why, without secrets."""


class Reader(Protocol):
    """Reads one source, connection by connection."""

    def read(self, recording: Recording, alive: Callable[[], None], stop: threading.Event) -> None:
        """Record one connection. alive: called for every sign of life. Raises SourceDown."""
        ...


class StreamReader:
    """RTSP and whatever else FFmpeg reads as one endless stream."""

    def __init__(self, source: SourceConfig, config: WatchConfig) -> None:
        self._source, self._config = source, config

    def read(self, recording: Recording, alive: Callable[[], None], stop: threading.Event) -> None:
        """Record one connection. Raises SourceDown."""
        import av

        address, options = self._source.address, self._options()
        try:
            with av.open(
                address,
                format=options.pop("format", None),
                options=options,
                timeout=(self._config.open_timeout_s, self._config.stall_s),
            ) as container:
                streams = [container.streams.best(kind) for kind in ("video", "audio")]
                if streams[0] is None:
                    raise SourceDown("it has no pictures")
                recording.connected()
                for packet in container.demux([s for s in streams if s is not None]):
                    if stop.is_set():
                        return
                    alive()
                    wall_s = wall_clock_of(packet)
                    recording.put(packet, wall_s=wall_s, clock=RTCP)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceDown(without_secrets(_reason(error, address), address)) from error
        raise SourceDown("the connection ended")

    def _options(self) -> dict[str, str]:
        scheme = self._source.address.split("://", 1)[0].lower()
        options = {"rtsp_transport": "tcp"} if scheme in ("rtsp", "rtsps") else {}
        if scheme in _PROTOCOLS:
            options["protocol_whitelist"] = _PROTOCOLS[scheme]
        return {**options, **self._source.options}


def wall_clock_of(packet: Packet[Any]) -> float | None:
    """Return when a packet happened, Unix seconds, as its sender says; None where it does not.

    FFmpeg reckons it from RTCP sender reports, and reads it from `prft` boxes.
    """
    if not packet.has_sidedata("prft"):
        return None
    data: Any = bytes(packet.get_sidedata("prft"))  # AVProducerReferenceTime: int64 us, int flags
    wall_s = int.from_bytes(data[:8], "little", signed=True) / 1e6
    return wall_s if wall_s > _FIRST_YEAR_S else None


def _reason(error: Exception, address: str) -> str:
    text = getattr(error, "strerror", None) or str(error)
    if getattr(error, "errno", None) == errno.EIO and not _is_known(urlsplit(address).hostname):
        text = "the host's name is not known"  # FFmpeg says no more than that it cannot read
    return f"{type(error).__name__}: {text}"


def _is_known(host: str | None) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return True
