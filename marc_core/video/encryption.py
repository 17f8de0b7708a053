"""Encrypted video is recognised by what the container says of it, never by garbage decoded.

| container | mark |
|---|---|
| mp4, mov (Common Encryption) | encryption data beside each encrypted packet |
| mp4, mov (FairPlay) | sample entry `drmi` |
| Matroska, WebM | a key id in the track's content encodings |
| ASF, WMV | the file's content encryption object |
| MPEG transport stream | scrambling bits of the packets; FFmpeg drops those |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from marc_core.errors import UnreadableVideoError
from marc_core.filenames import shown

if TYPE_CHECKING:
    from typing import Any

    from av.container import InputContainer
    from av.video.stream import VideoStream

_LOOKED_AT_BYTES = 4 << 20
"""Beginning of a transport stream that is searched for scrambled packets (our choice: seconds of
any broadcast)."""
_SYNC = 0x47
_STRIDES = (188, 192, 204)
"""Distances at which packets lie: plain, with time codes, with error correction."""


def check_not_encrypted(path: str, container: InputContainer, stream: VideoStream) -> None:
    """Raise UnreadableVideoError where the container says that `stream` is encrypted."""
    tag = str(stream.codec_context.codec_tag).lower()
    if "enc_key_id" in stream.metadata:
        raise encrypted(path, "Matroska content encryption")
    if "ASF_Protection_Type" in container.metadata:
        raise encrypted(path, f"ASF {container.metadata['ASF_Protection_Type']}")
    if tag in ("drmi", "encv"):
        raise encrypted(path, tag)


def check_packet(path: str, packet: Any) -> None:
    """Raise UnreadableVideoError where `packet` is encrypted (Common Encryption)."""
    if packet.has_sidedata("encryption_info"):
        scheme = next(
            bytes(data)[:4] for data in packet.iter_sidedata() if data.data_type.endswith("_info")
        )
        raise encrypted(path, scheme.decode("ascii", "replace"))


def check_not_scrambled(path: str, container: InputContainer) -> None:
    """Raise UnreadableVideoError where a transport stream's beginning holds scrambled packets."""
    if "mpegts" in container.format.name.split(",") and _is_scrambled(path):
        raise encrypted(path, "scrambled transport stream")


def encrypted(path: str, scheme: str) -> UnreadableVideoError:
    """Return the error of an encrypted video."""
    return UnreadableVideoError(
        f"'{shown(path)}' is encrypted ({scheme}): without its key there are no pictures. Decrypt "
        "it and index the decrypted file."
    )


def _is_scrambled(path: str) -> bool:
    with open(path, "rb") as file:
        data = file.read(_LOOKED_AT_BYTES)
    for stride in _STRIDES:
        start = next((i for i in range(stride) if _in_step(data, i, stride)), None)
        if start is not None:
            controls = (data[i + 3] >> 6 for i in range(start, len(data) - 3, stride))
            return any(control >= 2 for control in controls)
    return False


def _in_step(data: bytes, start: int, stride: int) -> bool:
    """Return whether at least three packets begin at `start`, `stride` bytes apart."""
    return len(data) > start + 2 * stride and all(
        data[start + k * stride] == _SYNC for k in range(3)
    )
