"""How right the words and the times of the speech stage are, and what they cost.

    python -m benchmarks.speech [FLITE] [--voices rms,awb] > benchmarks/results/speech.json

Sentences with known words are spoken by Flite (`apt install flite`; FLITE: its program) or, without
it, by the clips that MARC ships; a video is made of them for each condition, and heard. Errors are
of words, without case and punctuation; offsets are of each sentence's first and last sound.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from scipy.signal import resample_poly

from benchmarks.sound_media import write_sounded
from marc_core.config import TextConfig, VideoConfig
from marc_core.text.moonshine import Moonshine
from marc_core.text.speech import SpeechStage
from marc_core.text.stage import Said, Span
from marc_core.types import SOUND_RATE
from marc_core.world.sentences import SENTENCES, spoken

MORE = (
    "The two farmers painted their barn green last summer.",
    "Our camera is mounted above the main entrance.",
    "A yellow truck has stopped in front of the gate.",
    "The children are playing football behind the school.",
)
PAUSE_S = 1.5
LOUD = 0.03
"""Share of a clip's peak above which it sounds."""


@dataclass(frozen=True)
class Clip:
    """A sentence: its words, its samples, when in them it begins and ends to sound."""

    words: str
    samples: NDArray[np.float32]
    first_s: float
    last_s: float


def clip_of(words: str, samples: NDArray[np.float32]) -> Clip:
    loud = np.flatnonzero(np.abs(samples) > LOUD * np.abs(samples).max()) / SOUND_RATE
    return Clip(words, samples, float(loud[0]), float(loud[-1]))


def speak(flite: str, voice: str, words: str, folder: Path) -> Clip:
    """Return a sentence in one of Flite's voices."""
    path = folder / "said.wav"
    subprocess.run([flite, "-voice", voice, "-t", words, "-o", str(path)], check=True)
    with wave.open(str(path)) as file:
        rate = file.getframerate()
        raw = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return clip_of(words, resampled(raw.astype(np.float32) / 32768, rate, SOUND_RATE))


def resampled(sound: NDArray[np.float32], old: int, new: int) -> NDArray[np.float32]:
    if old == new:
        return sound
    shared = int(np.gcd(old, new))
    return resample_poly(sound, new // shared, old // shared).astype(np.float32)


def joined(clips: Sequence[Clip]) -> tuple[NDArray[np.float32], list[tuple[float, float]]]:
    """Return the clips with pauses between them, and when each sounds."""
    parts, times, now_s = [], [], PAUSE_S
    pause = np.zeros(round(PAUSE_S * SOUND_RATE), np.float32)
    for clip in clips:
        parts += [pause, clip.samples]
        times.append((now_s + clip.first_s, now_s + clip.last_s))
        now_s += len(clip.samples) / SOUND_RATE + PAUSE_S
    return np.concatenate([*parts, pause]), times


def noisy(sound: NDArray[np.float32], decibels: float) -> NDArray[np.float32]:
    """Add white noise to the sound, so many decibels below its speech."""
    power = float(np.mean(sound[np.abs(sound) > 0.01] ** 2)) / 10 ** (decibels / 10)
    noise = np.random.default_rng(0).normal(0, power**0.5, len(sound))
    return np.clip(sound + noise, -1, 1).astype(np.float32)


def surround(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 5.1: the voice in the middle, faint noise everywhere else."""
    whole = np.random.default_rng(0).normal(0, 0.003, (6, len(sound))).astype(np.float32)
    whole[2] = sound
    return whole


Make = Callable[[Path, NDArray[np.float32]], Path]
CONDITIONS: dict[str, tuple[float, Make]] = {
    "clean, 16 kHz AAC in mp4": (0.0, lambda p, s: write_sounded(p, s, rate=SOUND_RATE)),
    "noise at 20 dB": (0.0, lambda p, s: write_sounded(p, noisy(s, 20), rate=SOUND_RATE)),
    "noise at 10 dB": (0.0, lambda p, s: write_sounded(p, noisy(s, 10), rate=SOUND_RATE)),
    "sound begins 7.3 s late": (
        7.3,
        lambda p, s: write_sounded(p, s, rate=SOUND_RATE, sound_from_s=7.3),
    ),
    "48 kHz 5.1 AAC": (
        0.0,
        lambda p, s: write_sounded(p, surround(resampled(s, SOUND_RATE, 48_000)), layout="5.1"),
    ),
    "8 kHz mono": (
        0.0,
        lambda p, s: write_sounded(
            p.with_suffix(".mkv"), resampled(s, SOUND_RATE, 8000), rate=8000, codec="pcm_s16le"
        ),
    ),
}


def bare(words: str) -> list[str]:
    return re.sub(r"[^a-z0-9' ]", " ", words.lower()).split()


def judged(
    lines: Sequence[Said], clips: Sequence[Clip], times: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    """Return errors of words and offsets of times; a line belongs to the sentence it overlaps."""
    errors, starts, ends, lost = 0, [], [], 0
    for clip, (start_s, end_s) in zip(clips, times, strict=True):
        own = [line for line in lines if line.start_s < end_s and line.end_s > start_s]
        found = [word for line in own for word in bare(line.text)]
        errors += Levenshtein.distance(found, bare(clip.words))
        if own:
            starts.append(own[0].start_s - start_s)
            ends.append(own[-1].end_s - end_s)
        lost += not own
    total = sum(len(bare(clip.words)) for clip in clips)
    return {
        "word_error_rate": round(errors / total, 3),
        "words": total,
        "sentences_lost": lost,
        "start_s": spread(starts),
        "end_s": spread(ends),
    }


def spread(offsets: Sequence[float]) -> dict[str, float]:
    if not offsets:
        return {}
    least, middle, most = np.percentile(offsets, (5, 50, 95))
    return {"p5": round(least, 3), "median": round(middle, 3), "p95": round(most, 3)}


def heard(path: Path) -> tuple[tuple[Said, ...], float, float]:
    """Return the lines of a video, seconds of sound, CPU seconds of this process and children."""
    before_s = used_s()
    stage = SpeechStage(TextConfig(), VideoConfig())
    found = stage.texts(str(path), [Span(event_id="all", start_s=-1e6, end_s=1e6)])
    stage.close()
    return found.lines, found.seconds, used_s() - before_s


def used_s() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, kinds))


def silence_cost(folder: Path) -> float:
    """Return CPU seconds an hour of digital silence."""
    seconds = 600
    path = write_sounded(
        folder / "silence.mp4", np.zeros(seconds * SOUND_RATE, np.float32), rate=SOUND_RATE, fps=1
    )
    return heard(path)[2] * 3600 / seconds


def memory_over(clips: Sequence[Clip], count: int = 110) -> dict[str, float]:
    """Return the recogniser's memory (MiB) early and late in `count` utterances."""
    model, sizes = Moonshine(TextConfig()), []
    for number in range(count):
        model.recognize([clips[number % len(clips)].samples])
        status = Path(f"/proc/{model.child_pid}/status").read_text()
        sizes.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
    model.close()
    return {"after 10": round(max(sizes[:10])), f"after {count}": round(max(sizes[-10:]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flite", nargs="?", default=shutil.which("flite"))
    parser.add_argument("--voices", default="rms,awb")
    asked = parser.parse_args()
    results: dict[str, Any] = {"conditions": {}, "voices": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        voices = {"shipped clips": [clip_of(words, spoken(n)) for n, words in SENTENCES.items()]}
        if asked.flite:
            said = (*SENTENCES.values(), *MORE)
            voices = {
                voice: [speak(asked.flite, voice, words, folder) for words in said]
                for voice in asked.voices.split(",")
            }
        clips = [clip for own in voices.values() for clip in own]
        sound, times = joined(clips)
        cost_s = sound_s = 0.0
        for condition, (late_s, make) in CONDITIONS.items():
            sys.stderr.write(f"{condition}\n")
            lines, seconds, cpu_s = heard(make(folder / "said.mp4", sound))
            moved = [(start_s + late_s, end_s + late_s) for start_s, end_s in times]
            results["conditions"][condition] = judged(lines, clips, moved)
            cost_s, sound_s = cost_s + cpu_s, sound_s + seconds
            if not results["voices"]:
                own = {v: [any(c is k for k in o) for c in clips] for v, o in voices.items()}
                for voice, mine in own.items():
                    chosen = [i for i, yes in enumerate(mine) if yes]
                    results["voices"][voice] = judged(
                        lines, [clips[i] for i in chosen], [times[i] for i in chosen]
                    )["word_error_rate"]
        speech_s = sum(last_s - first_s for first_s, last_s in times) * len(CONDITIONS)
        results["cpu_s_an_hour_of_sound"] = round(cost_s * 3600 / sound_s)
        results["speech_share"] = round(speech_s / sound_s, 2)
        results["cpu_s_an_hour_of_silence"] = round(silence_cost(folder))
        results["memory_mib"] = memory_over(clips)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
