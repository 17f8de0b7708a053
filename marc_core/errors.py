"""Errors that a user can cause, each a `MarcError` with one clear sentence and a remedy.

Everything else that goes wrong is our own bug and stays an ordinary exception.
"""

from __future__ import annotations

from collections.abc import Sequence


class MarcError(Exception):
    """Base of every error that a user of MARC can cause or must handle."""


class ConfigError(MarcError, ValueError):
    """A configuration value breaks a rule. The message names the field, the value, the remedy."""


class SourceError(MarcError):
    """A video, archive or sidecar cannot be listed, read or fetched."""


class VideoError(MarcError):
    """A video cannot be turned into frames. `kind` is the class recorded in the videos table.

    `num_streams`: video streams of the file, where it could be opened.
    """

    kind = "video_error"
    num_streams: int | None = None


class UnreadableVideoError(VideoError):
    """The container cannot be opened, or holds no video stream."""

    kind = "unreadable"


class EmptyVideoError(VideoError):
    """The file opens, but not one frame could be decoded."""

    kind = "no_frames"


class VideoLimitError(VideoError):
    """The video is larger or longer than the configuration allows."""

    kind = "over_limit"


class PartBeyondEndError(VideoError):
    """A recording ended before a part of it began: its packets promised more pictures."""

    kind = "beyond_end"


class DecodeTimeoutError(VideoError):
    """The decoder made no progress, or did not finish, within the configured time."""

    kind = "timeout"


class DecoderCrashError(VideoError):
    """The decoding child process died (signal or non-zero exit)."""

    kind = "decoder_crash"


class MemoryStoreError(MarcError):
    """The memory cannot be opened, or its tables do not fit this version or configuration."""


class MissingMemoryError(MemoryStoreError):
    """There is no memory at the address."""


class ModelLoadError(MarcError):
    """A model directory or hub id cannot be loaded. The message names it and the remedy."""


class EngineError(MarcError):
    """The engine that computes answers has failed or is closed. The message has the cause."""


class AnswerError(MarcError):
    """A question cannot be answered (no events, empty question, budget too small)."""


class NothingFoundError(AnswerError):
    """No event passes a question's filter. The message says what the memory has instead: it is for
    those who may see all of it."""


class MissingFeaturesError(AnswerError):
    """An archive holds no features of some events for the student that asks.

    event_ids: those events, in the order asked for.
    """

    def __init__(self, message: str, event_ids: Sequence[str]) -> None:
        super().__init__(message)
        self.event_ids = tuple(event_ids)

    def __reduce__(self) -> tuple[type[MissingFeaturesError], tuple[str, tuple[str, ...]]]:
        """Let it cross between processes."""
        return type(self), (str(self), self.event_ids)


class TrainingError(MarcError):
    """Training cannot go on: a malformed training set, or weights that learn nothing any more. The
    message names the step and the last good checkpoint where there is one."""


class ClusterError(MarcError):
    """A Ray cluster cannot be reached, or never has what a job needs."""
