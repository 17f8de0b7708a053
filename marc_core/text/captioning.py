"""What an event shows, told in words at index time by a vision-language model.

    events --read_frames--> frames --VisionTower--> groups --prompt--> StudentEngine --> Said
           (up to `caption_frames`                 (uncompressed)     (one answer a prompt, the
            of each, evenly spread)                                    event's answers joined)

Frames are not compressed, so the model is the teacher unless `text.caption_model` names another of
the families that a student may have: it is the one that reads frames as they are.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from marc_core.compress import compress_across
from marc_core.config import CompressConfig, MethodConfig, StudentConfig, fingerprint
from marc_core.digest import content_digest
from marc_core.frame_cap import cap_frames
from marc_core.models.answering import answer_all
from marc_core.models.checkpoints import local_directory
from marc_core.models.engine import Completion, GenerationRequest
from marc_core.question import Sampling
from marc_core.text.stage import Said, Span, StageResult
from marc_core.video.clock import repaired_by
from marc_core.video.isolated import IsolatedDecoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.evidence import Evidence
    from marc_core.models.student_files import StudentFiles
    from marc_core.models.transformers_engine import TransformersEngine
    from marc_core.models.vision_tower import VisionTower
    from marc_core.schemas import TextKind

_EVENTS_TOGETHER = 16
"""Events whose frames are read in one pass over the file and whose captions are decoded together
(our choice: 40 MB of frames; a file in which one cannot seek is read once for each)."""
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
        self._text, self._model = config.text, caption_model(config)
        self._decoder = IsolatedDecoder(config.video)
        directory = local_directory("student", self._model.model, self._model.revision)
        files = sorted(p for p in directory.iterdir() if p.suffix in (".json", ".safetensors"))
        self.fingerprint = fingerprint(
            _VERSION,
            [(path.name, content_digest(path)) for path in files],
            config.video.frame_max_pixels,
            self._model.frame_max_pixels,
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
        """End the decoding child and the model's thread."""
        self._decoder.close()
        if "_engine" in self.__dict__:
            self._engine.close()

    @cached_property
    def _files(self) -> StudentFiles:
        from marc_core.models.student_files import StudentFiles

        return StudentFiles(self._model)

    @cached_property
    def _tower(self) -> VisionTower:
        from marc_core.models.vision_tower import VisionTower

        return VisionTower(self._model)

    @cached_property
    def _engine(self) -> TransformersEngine:
        from marc_core.models.transformers_engine import TransformersEngine

        return TransformersEngine(self._model)

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
        prompts = self._text.caption_prompts
        evidence = list(self._evidence(shown))
        sampling = Sampling(temperature=0.0, max_tokens=self._text.caption_max_tokens)
        requests = [
            GenerationRequest(id=uuid.uuid4().hex, evidence=e, sampling=sampling) for e in evidence
        ]
        answers = answer_all(self._engine, requests)
        for i, span in enumerate(spans):
            mine = answers[i * len(prompts) : (i + 1) * len(prompts)]
            told = joined(mine)
            if told.text:
                yield Said(
                    start_s=span.start_s,
                    end_s=span.end_s,
                    text=told.text,
                    confidence=told.confidence,
                )

    def _evidence(
        self, shown: Sequence[tuple[NDArray[np.uint8], NDArray[np.float64]]]
    ) -> Iterator[Evidence]:
        """Yield what the model reads for each event and prompt."""
        for features in self._tower.encode_events(shown):
            video = compress_across([features], CompressConfig(mode="none"))
            for prompt in self._text.caption_prompts:
                yield self._files.evidence(prompt, video)


@dataclass(frozen=True, slots=True)
class Told:
    """An event in words. confidence: 0 - 1, the mean probability of its tokens."""

    text: str
    confidence: float


def joined(answers: Sequence[Completion]) -> Told:
    """Return an event's answers as one text; answers alike are told once."""
    texts = list(dict.fromkeys(" ".join(answer.text.split()) for answer in answers))
    log_probs = [p for answer in answers for p in answer.log_probs]
    mean = math.exp(sum(log_probs) / len(log_probs)) if log_probs else 0.0
    return Told("; ".join(text for text in texts if text), mean)
