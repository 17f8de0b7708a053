"""What is said in a video: sound -> utterances -> words, in memory bounded by a few utterances.

    IsolatedDecoder.sound -> Segmenter (silero-vad) -> Recognizer (moonshine, Whisper) -> Said
    (child: decodes)         (when somebody speaks)    (what is said)

Times are the detector's, which are exact to about a tenth of a second; a model's own are not used.
A video without sound costs a look at its streams; silence is decoded, but neither judged nor
recognised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from marc_core.config import fingerprint
from marc_core.digest import content_digest
from marc_core.text.packages import folder_of
from marc_core.text.recognizer import Recognizer, load_recognizer
from marc_core.text.segments import Segmenter, Silero, Utterance, VoiceDetector, silero_file
from marc_core.text.stage import Said, Span, StageResult
from marc_core.types import SOUND_RATE
from marc_core.video.clock import repaired_by
from marc_core.video.isolated import IsolatedDecoder

if TYPE_CHECKING:
    from marc_core.config import MethodConfig, TextConfig, VideoConfig
    from marc_core.schemas import TextKind
    from marc_core.types import SoundBlock

_VERSION = 1
"""Of the rules here and in `segments` and `video.audio`: raise it when their results change."""


def make_stage(config: MethodConfig) -> SpeechStage:
    """Return the stage that `config.text` describes; raises like its constructor."""
    return SpeechStage(config.text, config.video)


class SpeechStage:
    """Hears videos, one at a time. Models are loaded by the first video that has sound."""

    kind: TextKind = "speech"

    def __init__(
        self, config: TextConfig, video: VideoConfig, *, recognizer: Recognizer | None = None
    ) -> None:
        """Raise ImportError (the extra is missing), ConfigError (the language), ModelLoadError."""
        folder_of("onnxruntime")
        self._config = config
        self._recognizer = load_recognizer(config) if recognizer is None else recognizer
        self._detector: VoiceDetector | None = None
        self._decoder = IsolatedDecoder(video)
        self.fingerprint = fingerprint(
            _VERSION,
            content_digest(silero_file()),
            (config.speech_threshold, config.speech_pause_s, config.speech_max_s),
            self._recognizer.fingerprint,
        )

    def texts(
        self,
        path: str,
        spans: Sequence[Span],
        *,
        stream: int = 0,
        warnings: Sequence[str] = (),
    ) -> StageResult:
        """Return what is said while the events `spans` last; see `TextStage.texts`."""
        if not spans:
            return StageResult()
        heard = _Hearing(spans[0].start_s, spans[-1].end_s)
        blocks = self._decoder.sound(
            path, stream=stream, repaired=repaired_by(warnings), until_s=heard.end_s
        )
        said: list[Said] = []
        num_failed = 0
        utterances = self._utterances(blocks, heard)
        while some := list(islice(utterances, self._config.speech_batch)):
            found = self._recognizer.recognize([utterance.samples for utterance in some])
            for utterance, words in zip(some, found, strict=True):
                num_failed += words.failed
                if words.text:
                    said.append(
                        Said(
                            start_s=utterance.start_s,
                            end_s=max(utterance.start_s, utterance.end_s),
                            text=words.text,
                            confidence=words.confidence,
                            language=words.language,
                        )
                    )
        failed = f"Utterances that the speech model could not read: {num_failed}."
        return StageResult(
            lines=tuple(said), seconds=heard.seconds, warnings=(failed,) if num_failed else ()
        )

    def close(self) -> None:
        """End the children."""
        self._decoder.close()
        self._recognizer.close()

    def _utterances(self, blocks: Iterator[SoundBlock], heard: _Hearing) -> Iterator[Utterance]:
        segmenter: Segmenter | None = None
        for block in blocks:
            if not heard.takes(block):
                continue
            if segmenter is None:
                self._detector = self._detector or Silero()
                segmenter = Segmenter(self._config, self._detector)
            yield from segmenter.push(block)
        if segmenter is not None:
            yield from segmenter.finish()


class _Hearing:
    """The time that is listened to, and how many seconds of sound lay in it."""

    def __init__(self, start_s: float, end_s: float) -> None:
        self.start_s, self.end_s = start_s, end_s
        self.seconds = 0.0

    def takes(self, block: SoundBlock) -> bool:
        """Return whether a block sounds within; count it."""
        length_s = len(block.samples) / SOUND_RATE
        inside = block.start_s < self.end_s and block.start_s + length_s > self.start_s
        self.seconds += length_s if inside else 0.0
        return inside
