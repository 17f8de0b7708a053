"""Sound that Matroska does not take, such as G.711 of many cameras, is decoded to plain PCM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av import Packet
    from av.container import OutputContainer

_PCM = "pcm_s16le"


class DecodedSound:
    """One track of a file that gets decoded what arrives encoded."""

    def __init__(self, out: OutputContainer, template: Any) -> None:
        context = template.codec_context
        self._rate = context.sample_rate
        self.stream: Any = out.add_stream(_PCM, rate=self._rate, layout=context.layout.name)
        self._resampler: Any = None

    def packets(self, packet: Packet[Any], pts_s: float) -> Iterator[Packet[Any]]:
        """Yield the PCM of a packet that begins at `pts_s`; nothing of one that is damaged."""
        from av import AudioResampler, FFmpegError, Packet

        if self._resampler is None:
            layout = self.stream.codec_context.layout.name
            self._resampler = AudioResampler("s16", layout=layout, rate=self._rate)
        try:
            decoded = packet.decode()
        except FFmpegError:
            return
        pts = round(pts_s * self._rate)
        for frame in decoded:
            frame.pts = None
            for plain in self._resampler.resample(frame):
                made: Packet[Any] = Packet(plain.to_ndarray().tobytes())
                made.pts = made.dts = pts
                made.duration = plain.samples
                made.stream, made.time_base = self.stream, self.stream.codec_context.time_base
                pts += plain.samples
                yield made
