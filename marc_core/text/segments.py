"""Where somebody speaks: silero-vad's network over a stream of sound, cut into utterances.

    SoundBlock, ... -> windows of 32 ms -> probability of speech -> Utterance (start, end, samples)

The network and its weights are silero-vad's; it runs in onnxruntime without torch. The rule that
makes utterances of probabilities is its authors', made to stream: speech begins at a window above
the threshold and ends at a pause. Honest differences: a pause has to last as long as between
sentences, and what goes on for too long is cut at its quietest moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from marc_core.text.packages import folder_of
from marc_core.types import SOUND_RATE, SoundBlock

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.config import TextConfig

WINDOW = 512
"""Samples that the network judges at a time (silero-vad's at 16 kHz: 32 ms)."""
_CONTEXT = 64
_RELEASE = 0.15
"""Speech goes on until the probability is this far below the threshold (its authors' value)."""
_LEAST_S = 0.25
"""Shorter speech is none (its authors' value)."""
_PAD_S = 0.03
"""Sound kept before and after speech (its authors' value)."""
_SILENT = 1e-4
"""A block whose samples all stay below (-80 dB) is silence without being judged (our choice)."""
_BROKEN_S = 0.5
"""Sound that goes on elsewhere by more than this is another run (our choice: less is the drift of a
recorder's clocks, and no reason to break a sentence)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """Speech without a long pause. samples: (N,) float32, SOUND_RATE a second."""

    start_s: float
    end_s: float
    samples: NDArray[np.float32]


class VoiceDetector(Protocol):
    """Judges windows of sound in their order."""

    def probabilities(self, windows_WN: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (W,) probabilities of speech in (W, WINDOW) samples that go on from the last."""
        ...

    def reset(self) -> None:
        """Forget what was heard: another sound begins."""
        ...


class Silero:
    """silero-vad's network for sequences of windows, on one thread."""

    def __init__(self) -> None:
        """Raise ImportError where the extra `speech` is not installed."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(silero_file()), options, providers=["CPUExecutionProvider"]
        )
        self.reset()

    def reset(self) -> None:
        """Forget what was heard."""
        self._state = [np.zeros((1, 1, 128), np.float32) for _ in range(2)]
        self._context = np.zeros(_CONTEXT, np.float32)

    def probabilities(self, windows_WN: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (W,) probabilities; the same for any split into calls."""
        ends_WC = windows_WN[:, -_CONTEXT:]
        contexts_WC = np.concatenate([self._context[None], ends_WC[:-1]])
        inputs = np.concatenate([contexts_WC, windows_WN], axis=1)
        found, *self._state = self._session.run(
            ["speech_probs", "hn", "cn"],
            {"input": inputs, "h": self._state[0], "c": self._state[1]},
        )
        self._context = ends_WC[-1].copy()
        return np.asarray(found, np.float32).reshape(-1)


def silero_file() -> Path:
    """Return silero-vad's network, found without importing the package (it imports torch).

    Raises ImportError where it is not installed.
    """
    return folder_of("silero_vad") / "data" / "silero_vad_16k_sequence.onnx"


class Segmenter:
    """Cuts one sound into utterances. Holds one utterance's samples at most."""

    def __init__(self, config: TextConfig, detector: VoiceDetector) -> None:
        self._config, self._detector = config, detector
        self._pause = max(1, round(config.speech_pause_s * SOUND_RATE / WINDOW))
        self._most = max(2, int(config.speech_max_s * SOUND_RATE / WINDOW))
        self._pad = round(_PAD_S * SOUND_RATE)
        self._end_s: float | None = None
        self._held = np.zeros(0, np.float32)
        self._judged = 0
        self._begin(0.0)

    def push(self, block: SoundBlock) -> Iterator[Utterance]:
        """Take the next block; yield the utterances that have ended."""
        expected_s = self._end_s
        if expected_s is None or abs(block.start_s - expected_s) > _BROKEN_S:
            yield from self.finish()
            self._begin(block.start_s)
        else:
            self._zero_s += block.start_s - expected_s
        self._end_s = block.start_s + len(block.samples) / SOUND_RATE
        self._held = np.concatenate([self._held, block.samples])
        count = (len(self._held) - self._judged) // WINDOW
        if count:
            first, last = self._judged, self._judged + count * WINDOW
            yield from self._judge(self._held[first:last].reshape(count, WINDOW))

    def finish(self) -> Iterator[Utterance]:
        """Yield what is still being said: the sound has ended."""
        if self._speaking:
            quiet = self._quiet if self._quiet is not None else len(self._scores)
            yield from self._utter(quiet, whole=quiet == len(self._scores))
        self._begin(0.0)
        self._end_s = None

    def _begin(self, start_s: float) -> None:
        """Begin another run of sound. `_zero_s` is the time of the first sample held."""
        self._detector.reset()
        self._zero_s = start_s
        self._held = np.zeros(0, np.float32)
        self._judged = 0
        self._speaking = False
        self._reset_speech()

    def _reset_speech(self) -> None:
        self._scores: list[float] = []
        self._quiet: int | None = None

    def _judge(self, windows_WN: NDArray[np.float32]) -> Iterator[Utterance]:
        if not self._speaking and np.abs(windows_WN).max() < _SILENT:
            self._detector.reset()
            scores = np.zeros(len(windows_WN), np.float32)
        else:
            scores = self._detector.probabilities(windows_WN)
        for score in scores.tolist():
            yield from self._step(score)
        if not self._speaking:
            self._forget(max(0, self._judged - self._pad))

    def _step(self, score: float) -> Iterator[Utterance]:
        """Judge the next window. While speech lasts, `_first` is the sample of its first window."""
        threshold = self._config.speech_threshold
        if not self._speaking and score >= threshold:
            self._speaking, self._first = True, self._judged
            self._first_s = self._time_s(max(0, self._first - self._pad))
            self._reset_speech()
        self._judged += WINDOW
        if not self._speaking:
            return
        self._scores.append(score)
        if score >= threshold:
            self._quiet = None
        elif score < threshold - _RELEASE and self._quiet is None:
            self._quiet = len(self._scores) - 1
        if self._quiet is not None and len(self._scores) - self._quiet >= self._pause:
            yield from self._utter(self._quiet)
            self._speaking = False
        elif len(self._scores) >= self._most:
            half = len(self._scores) // 2
            cut = half + int(np.argmin(self._scores[half:]))
            yield from self._utter(cut)
            self._scores = self._scores[cut:]
            self._first += cut * WINDOW
            self._first_s = self._time_s(max(0, self._first - self._pad))
            self._quiet = None if self._quiet is None else max(0, self._quiet - cut)

    def _utter(self, num_windows: int, *, whole: bool = False) -> Iterator[Utterance]:
        """Yield the first windows of the speech, unless they are too short; `whole`: to the end."""
        end = self._first + num_windows * WINDOW
        if num_windows * WINDOW < _LEAST_S * SOUND_RATE:
            return
        first = max(0, self._first - self._pad)
        last = len(self._held) if whole else min(len(self._held), end + self._pad)
        yield Utterance(
            start_s=self._first_s,
            end_s=self._time_s(last),
            samples=self._held[first:last].copy(),
        )

    def _time_s(self, sample: int) -> float:
        """Return when a sample held sounds, as the sound's last stamp has it."""
        return self._zero_s + sample / SOUND_RATE

    def _forget(self, count: int) -> None:
        """Drop the first samples held."""
        self._held = self._held[count:]
        self._judged -= count
        self._zero_s += count / SOUND_RATE
