"""Videos in: listing, probing, decoding. See docs/video.md."""

from marc_core.video.admission import admit_decord
from marc_core.video.backend import decode
from marc_core.video.decode import Decoding, probe
from marc_core.video.decord_backend import DecordDecoding, require_decord
from marc_core.video.exact import read_frames
from marc_core.video.isolated import DecodeStream, IsolatedDecoder
from marc_core.video.listing import Listing, list_videos
from marc_core.video.source import local_copy, stream_source

__all__ = [
    "DecodeStream",
    "Decoding",
    "DecordDecoding",
    "IsolatedDecoder",
    "Listing",
    "admit_decord",
    "decode",
    "list_videos",
    "local_copy",
    "probe",
    "read_frames",
    "require_decord",
    "stream_source",
]
