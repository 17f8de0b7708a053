"""What turns speech into words: one model per file behind a Protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from marc_core.config import TextConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """The words of an utterance; empty where the model hears none.

    confidence: 0 - 1, None where the model gives none. failed: the model died on it.
    """

    text: str
    confidence: float | None = None
    language: str | None = None
    failed: bool = False


class Recognizer(Protocol):
    """A speech model."""

    @property
    def fingerprint(self) -> str:
        """Digest of the model's files and of what is asked of it."""
        ...

    def recognize(self, sounds: Sequence[NDArray[np.float32]]) -> list[Heard]:
        """Return the words of each sound: (N,) float32 at `types.SOUND_RATE`, up to 30 s."""
        ...

    def close(self) -> None:
        """Let go of processes and memory."""
        ...


def load_recognizer(config: TextConfig) -> Recognizer:
    """Return the model that `config.speech_model` names. Its weights are loaded when it is asked.

    Raises ImportError (the extra `speech` is missing), ConfigError (a language that the model does
    not know), ModelLoadError.
    """
    if config.speech_model == "moonshine":
        from marc_core.text.moonshine import Moonshine

        return Moonshine(config)
    from marc_core.text.whisper import Whisper

    return Whisper(config)
