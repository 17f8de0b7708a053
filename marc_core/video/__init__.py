"""Videos in: listing, probing, decoding. See docs/video.md."""

from marc_core.video.backend import open_decoding as decode
from marc_core.video.decode import Decoding, probe
from marc_core.video.exact import read_frames
from marc_core.video.isolated import DecodeStream, IsolatedDecoder

__all__ = ["DecodeStream", "Decoding", "IsolatedDecoder", "decode", "probe", "read_frames"]
