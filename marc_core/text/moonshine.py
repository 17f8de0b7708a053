"""Moonshine (tiny, English), whose weights come with its package: speech to words without a hub.

    Moonshine --samples--> child (marc_core.text.moonshine_child) --words--> Heard

In a child, because its library is native, can crash, and keeps what it allocates; the child gives
memory back after each utterance. An utterance that kills the child twice is given up and said.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from marc_core.config import fingerprint
from marc_core.digest import content_digest
from marc_core.errors import ConfigError
from marc_core.text.packages import folder_of
from marc_core.text.recognizer import Heard
from marc_core.video import wire
from marc_core.video.process import Child

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from marc_core.config import TextConfig

_COMMAND = (sys.executable, "-P", "-m", "marc_core.text.moonshine_child")
_STALL_S = 120.0
"""An utterance of at most 30 s that takes longer hangs (our choice: 0.15 s a second of speech on an
idle core, so that even a machine that is 20 times overloaded gets there)."""
_TRIES = 2
LANGUAGE = "en"


class Moonshine:
    """Moonshine in a child that is started by the first utterance."""

    def __init__(self, config: TextConfig, *, command: Sequence[str] = _COMMAND) -> None:
        """Raise ImportError (the extra `speech` is missing), ConfigError (another language)."""
        if config.speech_language not in (None, LANGUAGE):
            raise ConfigError(
                f"text.speech_model=moonshine knows English only. Got text.speech_language="
                f"{config.speech_language}. Name a model of the Whisper family for it, such as "
                "text.speech_model=openai/whisper-small."
            )
        folder = folder_of("moonshine_voice") / "assets" / "tiny-en"
        files = sorted(path for path in folder.iterdir() if path.is_file())
        self.fingerprint = fingerprint(
            "moonshine", version("moonshine-voice"), [content_digest(path) for path in files]
        )
        self._command = tuple(command)
        self._child: Child | None = None

    def recognize(self, sounds: Sequence[NDArray[np.float32]]) -> list[Heard]:
        """Return the words of each sound."""
        return [self._recognize(sound) for sound in sounds]

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    @property
    def child_pid(self) -> int | None:
        """Process id of the present child, for monitoring."""
        return None if self._child is None else self._child.pid

    def _recognize(self, sound: NDArray[np.float32]) -> Heard:
        for _ in range(_TRIES):
            try:
                message = self._ask(sound)
            except (TimeoutError, EOFError):
                self.close()
                continue
            if message.kind == "refused":
                self.close()
                raise ConfigError(
                    f"text.speech_model=moonshine cannot be loaded: {message.fields['reason']} "
                    "Reinstall moonshine-voice==0.0.73, or switch speech off (text.speech=off)."
                )
            return Heard(text=str(message.fields["text"]).strip(), language=LANGUAGE)
        return Heard(text="", failed=True)

    def _ask(self, sound: NDArray[np.float32]) -> wire.Message:
        if self._child is None or not self._child.alive:
            self.close()
            self._child = Child(self._command)
        child = self._child
        child.send_message("recognize", {}, {"samples": sound})
        return wire.receive(lambda view: child.read_into(view, _STALL_S))
