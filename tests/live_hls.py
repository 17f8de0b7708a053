"""A live HLS source on loopback: pieces written by FFmpeg, a playlist that moves on, and faults.

The pictures are textures that change abruptly every few seconds, so that there are events; each
frame is small. Times are exact: a piece's EXT-X-PROGRAM-DATE-TIME is when it was shown.
"""

from __future__ import annotations

import datetime as dt
import io
import threading
import time
from collections import deque
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FPS = 10


class Piece(NamedTuple):
    number: int
    start_s: float
    data: bytes
    discontinuity: bool


def encode_piece(
    number: int,
    *,
    seconds: float = 1.0,
    size: tuple[int, int] = (160, 96),
    first_stamp: int | None = None,
    sound: bool = False,
    sign: bool = False,
) -> bytes:
    """Return an MPEG-TS of `seconds`, beginning with a keyframe; texture changes every 4 pieces.

    first_stamp: 90-kHz time of its first picture; default: goes on from piece to piece. sign: the
    number of the texture is written in the picture (`sign_of`).
    """
    width, height = size
    count = round(seconds * FPS)
    rng = np.random.default_rng(number // 4)
    texture = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    texture = texture.repeat(8, 0).repeat(8, 1)
    first = number * count if first_stamp is None else round(first_stamp * FPS / 90_000)
    buffer = io.BytesIO()
    options = {"tune": "zerolatency", "preset": "ultrafast", "g": str(count)}
    muxing = {"mpegts_copyts": "1", "avoid_negative_ts": "disabled"}
    with av.open(buffer, "w", format="mpegts", options=muxing) as container:
        video = container.add_stream("libx264", rate=FPS, options=options)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=16_000) if sound else None
        for i in range(count):
            shown = np.roll(texture, i, axis=1)
            if sign:
                _write(sign_of(number), shown)
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            frame.pts, frame.time_base = first + i, Fraction(1, FPS)
            container.mux(video.encode(frame))
            if audio is not None:
                tone = np.sin(np.arange(1600) / 5, dtype=np.float32)[None]
                heard = av.AudioFrame.from_ndarray(tone, "fltp", "mono")
                heard.rate, heard.pts, heard.time_base = (
                    16_000,
                    (first + i) * 1600,
                    Fraction(1, 16_000),
                )
                container.mux(audio.encode(heard))
        for stream in (video, audio):
            if stream is not None:
                container.mux(stream.encode())
    return buffer.getvalue()


def sign_of(number: int) -> str:
    """Return what is written in the pictures of a piece."""
    return f"GATE {number // 4 + 100}"


def _write(text: str, picture_HWC: NDArray[np.uint8]) -> None:
    """Write white letters on black along the lower edge."""
    image = Image.new("RGB", (picture_HWC.shape[1], 30))
    ImageDraw.Draw(image).text((4, 0), text, fill="white", font=ImageFont.load_default(24))
    picture_HWC[-30:] = np.asarray(image)


class LiveHls:
    """Serves a playlist of the last pieces. `add` shows the next one. `is_down` refuses all."""

    def __init__(self, *, kept: int = 6, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.pieces: deque[Piece] = deque(maxlen=kept)
        self.number, self.is_down, self.asked = 0, False, 0
        self.starts: list[float] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/live.m3u8"

    def __enter__(self) -> LiveHls:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, data: bytes, start_s: float, *, discontinuity: bool = False) -> None:
        with self._lock:
            self.pieces.append(Piece(self.number, start_s, data, discontinuity))
            self.starts.append(start_s)
            self.number += 1

    def play(
        self,
        seconds: float,
        *,
        size: tuple[int, int] = (160, 96),
        clock_ahead_s: float = 0.0,
        sign: bool = False,
    ) -> None:
        """Show pieces in real time, each when it has ended."""
        start = time.time()
        for i in range(round(seconds / self.seconds)):
            begin = start + i * self.seconds
            data = encode_piece(self.number, seconds=self.seconds, size=size, sign=sign)
            time.sleep(max(0.0, begin + self.seconds - time.time()))
            self.add(data, begin + clock_ahead_s)

    def playlist(self) -> str:
        with self._lock:
            pieces = list(self.pieces)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{round(self.seconds) or 1}"]
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{pieces[0].number if pieces else self.number}")
        for piece in pieces:
            moment = dt.datetime.fromtimestamp(piece.start_s, dt.UTC)
            date = moment.isoformat(timespec="milliseconds")
            lines += ["#EXT-X-DISCONTINUITY"] * piece.discontinuity
            lines += [f"#EXT-X-PROGRAM-DATE-TIME:{date}", f"#EXTINF:{self.seconds:.3f},"]
            lines.append(f"piece{piece.number}.ts")
        return "\n".join(lines) + "\n"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        live = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                live.asked += 1
                if live.is_down:
                    self.connection.close()
                    return
                found = {f"/piece{p.number}.ts": p.data for p in list(live.pieces)}
                found["/live.m3u8"] = live.playlist().encode()
                data = found.get(self.path)
                self.send_response(404 if data is None else 200)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *_: object) -> None:
                pass

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (OSError, ValueError):  # the reader, or we, went away
                    self.close_connection = True

        return Handler
