"""Encrypted video says so; what is readable in a partly encrypted file is read."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.odd_media import write_numbers
from marc_core.config import VideoConfig
from marc_core.errors import UnreadableVideoError
from marc_core.video import decode, probe, read_frames

CONFIG = VideoConfig()
CENC = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "00112233445566778899aabbccddeeff",
    "encryption_kid": "ffeeddccbbaa99887766554433221100",
}


def scramble(path: Path) -> Path:
    """Set the scrambling bits of the video packets of a transport stream, and scramble them."""
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 188):
        if ((data[at + 1] & 31) << 8) | data[at + 2] == 256:
            header = 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
            data[at + 3] |= 0x80
            for i in range(at + header, at + 188):
                data[i] ^= 0x5A
    path.write_bytes(data)
    return path


def _sized(ident: bytes, body: bytes) -> bytes:
    """Return an EBML element with an eight-byte size."""
    return ident + struct.pack(">Q", len(body) | (1 << 56)) + body


def _element(data: bytes, at: int) -> tuple[bytes, bytes, int]:
    """Return (id, body, end) of the EBML element at `at`."""
    id_bytes = 9 - data[at].bit_length()
    size_at = at + id_bytes
    size_bytes = 9 - data[size_at].bit_length()
    size = int.from_bytes(data[size_at : size_at + size_bytes], "big") & ((1 << 7 * size_bytes) - 1)
    start = size_at + size_bytes
    return data[at : at + id_bytes], data[start : start + size], start + size


ENCODINGS = _sized(
    b"\x6d\x80",
    _sized(
        b"\x62\x40",
        _sized(b"\x50\x31", b"\0")
        + _sized(b"\x50\x32", b"\1")
        + _sized(b"\x50\x33", b"\1")
        + _sized(b"\x50\x35", _sized(b"\x47\xe1", b"\5") + _sized(b"\x47\xe2", b"k" * 16)),
    ),
)
"""ContentEncodings: AES encryption with a key id."""


def _with_encodings(data: bytes, ident: bytes) -> bytes:
    """Return EBML `data` with ENCODINGS in every track entry."""
    out, at = b"", 0
    while at < len(data):
        name, body, end = _element(data, at)
        if name in (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b"):  # Segment, Tracks
            out += _sized(name, _with_encodings(body, name))
        elif name == b"\xae" and ident == b"\x16\x54\xae\x6b":
            out += _sized(name, body + ENCODINGS)
        elif name not in (b"\x11\x4d\x9b\x74", b"\x1c\x53\xbb\x6b"):  # SeekHead, Cues: moved
            out += data[at:end]
        at = end
    return out


def encrypt_track(path: Path) -> Path:
    """Mark the track of a Matroska file as encrypted."""
    path.write_bytes(_with_encodings(path.read_bytes(), b""))
    return path


def _boxes(data: bytes) -> dict[bytes, tuple[int, int]]:
    """Return {type: (start, end)} of an mp4 file's top-level boxes."""
    found, at = {}, 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        found[kind] = (at, at + size)
        at += size
    return found


def _moved(track: bytearray, table: bytes, entries_at: int, shift: int) -> None:
    """Add `shift` to every 32-bit file offset of a box `table` of `track`."""
    at = track.find(table)
    if at > 0:
        (count,) = struct.unpack_from(">I", track, at + entries_at - 4)
        for i in range(count):
            where = at + entries_at + 4 * i
            struct.pack_into(">I", track, where, struct.unpack_from(">I", track, where)[0] + shift)


def add_track(first: Path, second: Path, path: Path) -> Path:
    """Write an mp4 file with the track of `first` and that of `second`, as they are."""
    a, b = first.read_bytes(), second.read_bytes()
    moov, media = _boxes(a)[b"moov"], _boxes(b)[b"mdat"]
    b_moov = b[slice(*_boxes(b)[b"moov"])]
    start = b_moov.find(b"trak") - 4
    track = bytearray(b_moov[start : start + struct.unpack_from(">I", b_moov, start)[0]])
    shift = moov[0] - media[0]
    _moved(track, b"stco", 12, shift)
    _moved(track, b"saio", 12, shift)
    struct.pack_into(">I", track, track.find(b"tkhd") + 16, 2)
    body = a[moov[0] + 8 : moov[1]] + bytes(track)
    path.write_bytes(
        a[: moov[0]] + b[slice(*media)] + struct.pack(">I4s", len(body) + 8, b"moov") + body
    )
    return path


def make(folder: Path, name: str) -> Path:
    path = folder / name
    if name.endswith(".mkv"):
        return encrypt_track(write_numbers(path))
    if name.endswith(".ts"):
        return scramble(write_numbers(path, codec_options={"g": "10"}))
    fragments = {"movflags": "frag_keyframe"} if "fragmented" in name else {}
    return write_numbers(path, container_options=CENC | fragments)


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("cenc.mp4", "cenc"), ("cenc.mov", "cenc"), ("scrambled.ts", "scrambled"),
     ("track.mkv", "Matroska")],
)  # fmt: skip
@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_encrypted_video_says_so_and_what_to_do(tmp_path: Path, name, scheme, backend):
    path = make(tmp_path, name)
    config = VideoConfig(backend=backend)
    for attempt in (
        lambda: probe(path, config),
        lambda: decode(path, config),
        lambda: read_frames(path, [0.0], config),
    ):
        with pytest.raises(UnreadableVideoError, match=rf"is encrypted \({scheme}.*Decrypt it"):
            attempt()


def test_only_the_video_must_be_clear(tmp_path: Path):
    """Encrypted sound beside a clear picture costs nothing: the picture is decoded."""
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w", options=CENC) as out:
        stream = out.add_stream("aac", rate=16000)
        for i in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.rate, frame.pts = 16000, 1024 * i
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    clear = write_numbers(tmp_path / "clear.mp4")
    both = tmp_path / "both.mp4"
    add_track(clear, path, both)
    with av.open(str(both)) as media:
        packet = next(p for p in media.demux(audio=0) if p.size)
        assert packet.has_sidedata("encryption_info")
    with decode(both, CONFIG) as decoding:
        assert sum(len(chunk.times_s) for chunk in decoding) == 30
