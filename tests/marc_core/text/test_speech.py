"""The speech stage: words with right times, without a network, in bounded memory."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.odd_media import write_numbers
from benchmarks.sound_media import write_sounded
from marc_core.config import MethodConfig, TextConfig, VideoConfig
from marc_core.errors import ConfigError, ModelLoadError, UnreadableVideoError
from marc_core.text.moonshine import Moonshine
from marc_core.text.recognizer import Heard
from marc_core.text.speech import SpeechStage, make_stage
from marc_core.text.stage import Span
from marc_core.types import SOUND_RATE
from marc_core.world.sentences import SENTENCES, spoken, spoken_at
from tests.marc_core.text.offline import without_network

pytest.importorskip("onnxruntime")
pytest.importorskip("silero_vad")
pytest.importorskip("moonshine_voice")

STARTS_S = {"bakery": 1.0, "storm": 6.0}
SPAN = Span(event_id="e", start_s=0.0, end_s=12.0)


class Lengths:
    """Hears how long an utterance is."""

    fingerprint = "lengths"

    def __init__(self) -> None:
        self.calls: list[int] = []

    def recognize(self, sounds: Sequence[NDArray[np.float32]]) -> list[Heard]:
        self.calls.append(len(sounds))
        return [Heard(text=f"{len(sound) / SOUND_RATE:.1f}") for sound in sounds]

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sentences, from 1 s and from 6 s of 12 s on."""
    path = tmp_path_factory.mktemp("speech") / "two.mp4"
    return write_sounded(path, spoken_at(STARTS_S, 12.0), rate=SOUND_RATE)


@pytest.fixture
def lengths() -> Lengths:
    return Lengths()


@pytest.fixture
def stage(lengths: Lengths) -> Iterator[SpeechStage]:
    made = SpeechStage(TextConfig(), VideoConfig(), recognizer=lengths)
    yield made
    made.close()


def test_sentences_are_heard_where_they_are_spoken(video: Path) -> None:
    made = make_stage(MethodConfig())
    result = made.texts(str(video), [SPAN])
    made.close()
    assert made.kind == "speech"
    assert result.seconds == pytest.approx(12.0, abs=0.2)
    assert not result.warnings
    assert len(result.lines) == 2
    for line, (name, start_s) in zip(result.lines, STARTS_S.items(), strict=True):
        end_s = start_s + len(spoken(name)) / SOUND_RATE
        assert line.start_s == pytest.approx(start_s, abs=0.35)  # a clip begins quietly
        assert line.end_s == pytest.approx(end_s, abs=0.35)
        assert line.language == "en"
        wanted = {word.strip(".").lower() for word in SENTENCES[name].split()}
        found = {word.strip(".,").lower() for word in line.text.split()}
        assert len(wanted & found) >= 0.7 * len(wanted), line.text


def test_only_what_sounds_during_the_events_is_heard(
    video: Path, stage: SpeechStage, lengths: Lengths
) -> None:
    late = stage.texts(str(video), [replace(SPAN, start_s=5.0)])
    early = stage.texts(str(video), [replace(SPAN, end_s=2.0), replace(SPAN, end_s=4.9)])
    assert [5.5 < line.start_s < 7.0 for line in late.lines] == [True]
    assert [0.5 < line.start_s < 2.0 for line in early.lines] == [True]
    assert early.seconds < 7.0
    assert not stage.texts(str(video), []).lines
    assert lengths.calls == [1, 1]


def test_a_video_without_sound_costs_no_model(
    tmp_path: Path, stage: SpeechStage, lengths: Lengths
) -> None:
    silent = write_numbers(tmp_path / "silent.mp4")
    result = stage.texts(str(silent), [SPAN])
    assert (result.lines, result.seconds) == ((), 0.0)
    assert stage._detector is None
    assert lengths.calls == []


def test_a_silent_track_costs_no_model(
    tmp_path: Path, stage: SpeechStage, lengths: Lengths
) -> None:
    path = write_sounded(tmp_path / "a.mp4", np.zeros(4 * SOUND_RATE, np.float32), rate=SOUND_RATE)
    result = stage.texts(str(path), [replace(SPAN, end_s=4.0)])
    assert (result.lines, result.warnings, lengths.calls) == ((), (), [])
    assert result.seconds == pytest.approx(4.0, abs=0.2)


def test_errors_of_a_file_reach_the_caller(tmp_path: Path, stage: SpeechStage) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UnreadableVideoError, match=r"text\.mp4"):
        stage.texts(str(tmp_path / "text.mp4"), [SPAN])


def test_the_fingerprint_follows_what_changes_texts() -> None:
    def name(**settings: object) -> str:
        return SpeechStage(TextConfig(**settings), VideoConfig()).fingerprint  # type: ignore[arg-type]

    changed = [name(), name(speech_pause_s=1.0), name(speech_max_s=10.0)]
    changed += [name(speech_threshold=0.6)]
    assert len(set(changed)) == len(changed)
    assert name() == name(speech_batch=1) == name(speech="on")


def test_moonshine_knows_english_only() -> None:
    with pytest.raises(ConfigError, match="speech_language=de"):
        Moonshine(TextConfig(speech_language="de"))


def test_a_killed_child_is_started_again_and_a_deadly_utterance_is_given_up() -> None:
    model = Moonshine(TextConfig())
    sound = spoken("bakery")
    (first,) = model.recognize([sound])
    assert model.child_pid is not None
    assert len(os.listdir(f"/proc/{model.child_pid}/task")) == 1  # workers are many
    os.kill(model.child_pid, signal.SIGKILL)
    assert model.recognize([sound]) == [first]
    model.close()
    dying = Moonshine(TextConfig(), command=[sys.executable, "-c", "import os; os.abort()"])
    assert dying.recognize([sound]) == [Heard(text="", failed=True)]
    dying.close()


def test_lost_utterances_are_said(video: Path, lengths: Lengths) -> None:
    class Failing(Lengths):
        def recognize(self, sounds: Sequence[NDArray[np.float32]]) -> list[Heard]:
            return [Heard(text="", failed=True) for _ in sounds]

    stage = SpeechStage(TextConfig(), VideoConfig(), recognizer=Failing())
    result = stage.texts(str(video), [SPAN])
    stage.close()
    assert not result.lines
    assert result.warnings == ("Utterances that the speech model could not read: 2.",)


def test_a_directory_that_is_no_speech_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelLoadError, match="Whisper family"):
        SpeechStage(TextConfig(speech_model=str(tmp_path)), VideoConfig())


def test_moonshine_needs_no_network(video: Path) -> None:
    assert without_network(video, "moonshine") == "2"


@pytest.mark.slow
def test_memory_stays_flat_over_a_hundred_utterances() -> None:
    model = Moonshine(TextConfig())
    sizes = []
    for number in range(110):
        model.recognize([spoken("bakery")[: SOUND_RATE * (1 + number % 3)]])
        status = Path(f"/proc/{model.child_pid}/status").read_text()
        sizes.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
    model.close()
    assert max(sizes[-10:]) - max(sizes[5:15]) < 40, sizes
