"""What an event shows, told in words at index time by a vision-language model.

    events --read_frames--> frames --Describer--> text --> Said
           (up to `caption_frames`  (one answer a prompt, the
            of each, evenly spread)  event's answers joined)

Frames are not compressed, so the model is the teacher unless `text.caption_model` names another
(`describers`): it is the one that reads frames as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from marc_core.config import MethodConfig, StudentConfig, fingerprint
from marc_core.digest import content_digest
from marc_core.frame_cap import cap_frames
from marc_core.models.checkpoints import local_directory
from marc_core.text.describers import make_describer
from marc_core.text.stage import Said, Span, StageResult
from marc_core.video.clock import repaired_by
from marc_core.video.isolated import IsolatedDecoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.schemas import TextKind

_EVENTS_TOGETHER = 16
"""Events whose frames are read in one pass over the file and whose captions are decoded together
(our choice: 40 MB of frames; a file in which one cannot seek is read once for each)."""
_DECIDE = (".json", ".jinja", ".model", ".safetensors", ".txt")
"""Endings of the files of a model that decide what it writes."""
_VERSION = 1
"""Counts the changes of what the same model and settings write."""


def make_stage(config: MethodConfig) -> CaptionStage:
    """Return the stage. Raises ModelLoadError for a model that cannot be found; loads none."""
    return CaptionStage(config)


def caption_model(config: MethodConfig) -> StudentConfig:
    """Return the model that captions: `text.caption_model`, or else the teacher."""
    model = replace(config.teacher_model(), engine="transformers")
    if config.text.caption_model:
        text = config.text
        model = replace(model, model=text.caption_model, revision=text.caption_revision)
    return model


class CaptionStage:
    """Describes events one by one; holds a decoding child and the model."""

    kind: TextKind = "caption"

    def __init__(self, config: MethodConfig) -> None:
        self._text, model = config.text, caption_model(config)
        directory = local_directory("student", model.model, model.revision)
        self._describer = make_describer(model, config.text, directory)
        self._decoder = IsolatedDecoder(config.video)
        files = sorted(path for path in directory.iterdir() if path.suffix in _DECIDE)
        self.fingerprint = fingerprint(
            _VERSION,
            [(path.name, content_digest(path)) for path in files],
            config.video.frame_max_pixels,
            model.frame_max_pixels,
            self._text.caption_frames,
            self._text.caption_prompts,
            self._text.caption_max_tokens,
        )

    def texts(
        self,
        path: str,
        spans: Sequence[Span],
        *,
        stream: int = 0,
        warnings: Sequence[str] = (),
    ) -> StageResult:
        """Return a line for every event (`TextStage.texts`); confidence: mean probability of its
        tokens."""
        lines: list[Said] = []
        for first in range(0, len(spans), _EVENTS_TOGETHER):
            batch = spans[first : first + _EVENTS_TOGETHER]
            shown = self._frames(path, batch, stream, repaired_by(warnings))
            lines += self._described(batch, shown)
        return StageResult(
            lines=tuple(lines), seconds=sum(span.end_s - span.start_s for span in spans)
        )

    def close(self) -> None:
        """End the decoding child and let go of the model."""
        self._decoder.close()
        self._describer.close()

    def _frames(
        self, path: str, spans: Sequence[Span], stream: int, repaired: bool
    ) -> list[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
        """Return (frames (F, H, W, 3), times_s (F,)) of each event, in one pass over the file."""
        most = self._text.caption_frames
        times_s = [cap_frames(np.asarray(s.frame_times_s, np.float64), most) for s in spans]
        wanted = np.concatenate(times_s).tolist()
        frames = self._decoder.read_frames(path, wanted, stream=stream, repaired=repaired)
        ends = np.cumsum([len(times) for times in times_s])
        return [
            (np.stack(frames[end - len(times) : end]), times)
            for times, end in zip(times_s, ends.tolist(), strict=True)
        ]

    def _described(
        self,
        spans: Sequence[Span],
        shown: Sequence[tuple[NDArray[np.uint8], NDArray[np.float64]]],
    ) -> Iterator[Said]:
        for span, told in zip(spans, self._describer.describe(shown), strict=True):
            if told.text:
                yield Said(
                    start_s=span.start_s,
                    end_s=span.end_s,
                    text=told.text,
                    confidence=told.confidence,
                )
