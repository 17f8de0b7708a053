"""What is said about a video in words: today the files beside it (captions and metadata)."""

from marc_core.text.captions import Caption
from marc_core.text.sidecar import Sidecar, read_sidecar

__all__ = ["Caption", "Sidecar", "read_sidecar"]
