"""The recognising child: `python -m marc_core.text.moonshine_child <data fd>`.

    stdin: wire messages      recognize (samples (N,) float32 at 16 kHz)
    <data fd>: wire messages  words (text) | refused (reason)

It ends when its stdin ends. The package's own Python class copies samples one by one; here the
library reads them where they lie.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import numpy as np

from marc_core.types import SOUND_RATE
from marc_core.video import wire

_OPTIONS = {"vad_threshold": "0", "return_audio_data": "false"}
"""Utterances come cut already: all of each is speech. Samples are not copied into the answer."""


def main() -> None:
    """Answer until stdin ends."""
    fd = int(sys.argv[1])
    os.environ["MOONSHINE_ORT_SINGLE_THREAD"] = "1"  # else a thread a core, in each of many workers
    message = wire.receive(_read_stdin)
    try:
        library = _Library()
    except (ImportError, OSError, RuntimeError) as error:
        wire.send(fd, "refused", {"reason": f"{error}"}, {})
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)  # glibc's
    while True:
        wire.send(fd, "words", {"text": library.words(message.arrays["samples"])}, {})
        trim(0)  # else its memory grows with every utterance
        message = wire.receive(_read_stdin)


def _read_stdin(view: memoryview) -> None:
    while view:
        count = os.readv(0, [view])
        if count == 0:
            os._exit(0)
        view = view[count:]


class _Library:
    """The loaded model."""

    def __init__(self) -> None:
        from moonshine_voice.moonshine_api import ModelArch, TranscriptC
        from moonshine_voice.transcriber import Transcriber
        from moonshine_voice.utils import get_model_path

        self._transcript: Any = TranscriptC
        self._transcriber = Transcriber(get_model_path("tiny-en"), ModelArch.TINY, options=_OPTIONS)

    def words(self, samples: np.ndarray[Any, np.dtype[np.float32]]) -> str:
        """Return what is said in (N,) float32 samples; lines are joined."""
        from moonshine_voice.errors import check_error

        found = ctypes.POINTER(self._transcript)()
        code = self._transcriber._lib.moonshine_transcribe_without_streaming(
            self._transcriber._handle,
            np.ascontiguousarray(samples).ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            len(samples),
            SOUND_RATE,
            0,
            ctypes.byref(found),
        )
        check_error(code)
        if not found:
            return ""
        transcript = found.contents
        lines = [transcript.lines[i].text for i in range(transcript.line_count)]
        words = (ctypes.string_at(line).decode(errors="replace") for line in lines if line)
        return " ".join(word.strip() for word in words if word.strip())


if __name__ == "__main__":
    main()
