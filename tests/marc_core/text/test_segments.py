"""Utterances: bounded, with right times, the same however the sound arrives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from marc_core.config import TextConfig
from marc_core.text.segments import WINDOW, Segmenter, Silero, Utterance
from marc_core.types import SOUND_RATE, SoundBlock
from marc_core.world.sentences import spoken, spoken_at

CONFIG = TextConfig()


class LoudIsSpeech:
    """Takes what is loud for speech."""

    def __init__(self) -> None:
        self.num_judged = 0

    def probabilities(self, windows_WN: NDArray[np.float32]) -> NDArray[np.float32]:
        self.num_judged += len(windows_WN)
        return np.abs(windows_WN).mean(axis=1).clip(0, 1)

    def reset(self) -> None:
        pass


def blocks_of(
    sound: NDArray[np.float32], start_s: float = 0.0, size: int = SOUND_RATE
) -> list[SoundBlock]:
    return [
        SoundBlock(
            start_s=start_s + first / SOUND_RATE,
            samples=sound[first : first + size],
            joins=first > 0,
        )
        for first in range(0, len(sound), size)
    ]


def cut(
    blocks: Sequence[SoundBlock], detector: object = None, **settings: float
) -> list[Utterance]:
    segmenter = Segmenter(TextConfig(**settings), detector or LoudIsSpeech())  # type: ignore[arg-type]
    found = [utterance for block in blocks for utterance in segmenter.push(block)]
    return found + list(segmenter.finish())


def loud(*spans_s: tuple[float, float], seconds: float) -> NDArray[np.float32]:
    sound = np.full(round(seconds * SOUND_RATE), 0.01, np.float32)
    for start_s, end_s in spans_s:
        sound[round(start_s * SOUND_RATE) : round(end_s * SOUND_RATE)] = 1.0
    return sound


def times(found: Sequence[Utterance]) -> list[tuple[float, float]]:
    return [(u.start_s, u.end_s) for u in found]


def test_speech_ends_at_a_pause_and_not_at_a_breath() -> None:
    sound = loud((1, 2), (2.2, 3), (5, 6), (7, 7.1), seconds=9)
    found = cut(blocks_of(sound, start_s=100.0))
    np.testing.assert_allclose(times(found), [(101, 103), (105, 106)], atol=0.07)
    for utterance in found:
        length_s = len(utterance.samples) / SOUND_RATE
        assert utterance.end_s - utterance.start_s == pytest.approx(length_s, abs=1e-6)
        first = round((utterance.start_s - 100.0) * SOUND_RATE)
        np.testing.assert_array_equal(
            utterance.samples, sound[first : first + len(utterance.samples)]
        )


@pytest.mark.parametrize("size", [160, 1000, 16_000])
def test_the_size_of_blocks_changes_nothing(size: int) -> None:
    sound = loud((1, 2), (2.2, 9), (10, 11), seconds=11)
    whole = cut(blocks_of(sound, size=len(sound)), speech_max_s=4.0)
    parts = cut(blocks_of(sound, size=size), speech_max_s=4.0)
    np.testing.assert_allclose(times(parts), times(whole), atol=1e-6)
    assert [len(u.samples) for u in parts] == [len(u.samples) for u in whole]


def test_long_speech_is_cut_at_its_quietest_moment_and_loses_nothing() -> None:
    sound = loud((0, 10), seconds=12)
    sound[3 * SOUND_RATE : 3 * SOUND_RATE + WINDOW] = 0.7
    found = cut(blocks_of(sound), speech_max_s=4.0)
    assert found[0].end_s == pytest.approx(3.0, abs=0.07)
    assert all(u.end_s - u.start_s <= 4.1 for u in found)
    gaps_s = [after.start_s - before.end_s for before, after in pairwise(found)]
    assert all(-0.07 <= gap_s <= 0.0 for gap_s in gaps_s)
    assert found[-1].end_s == pytest.approx(10.0, abs=0.07)


def test_a_break_in_the_sound_ends_speech_and_drift_does_not() -> None:
    sound = loud((0, 4), seconds=4)
    first, second = blocks_of(sound[: 2 * SOUND_RATE]), sound[2 * SOUND_RATE :]
    far = cut([*first, *blocks_of(second, start_s=30.0)])
    np.testing.assert_allclose(times(far), [(0, 2), (30, 32)], atol=0.04)
    near = cut([*first, *blocks_of(second, start_s=2.06)])
    np.testing.assert_allclose(times(near), [(0, 4.06)], atol=0.04)


def test_digital_silence_is_not_judged() -> None:
    detector = LoudIsSpeech()
    assert not cut(blocks_of(np.zeros(60 * SOUND_RATE, np.float32)), detector)
    assert detector.num_judged == 0


def test_memory_does_not_grow_with_what_is_not_speech() -> None:
    segmenter = Segmenter(CONFIG, LoudIsSpeech())
    for block in blocks_of(loud(seconds=120)):
        assert not list(segmenter.push(block))
        assert len(segmenter._held) <= SOUND_RATE


def test_silero_hears_sentences_where_they_are_and_none_in_noise() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("silero_vad")
    starts_s = {"bakery": 1.0, "storm": 6.0}
    found = cut(blocks_of(spoken_at(starts_s, 12.0)), Silero())
    wanted = [(s, s + len(spoken(name)) / SOUND_RATE) for name, s in starts_s.items()]
    np.testing.assert_allclose(times(found), wanted, atol=0.35)  # clips begin and end quietly
    noise = np.random.default_rng(0).normal(0, 0.05, 5 * SOUND_RATE).astype(np.float32)
    assert not cut(blocks_of(noise), Silero())
