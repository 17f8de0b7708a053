"""Frames agree with the ground truth, at every size, and are the same in every process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from marc_core.world import (
    WorldConfig,
    WorldVideo,
    make_questions,
    object_states,
    render_frames,
    sample_video,
    write_mp4,
)
from marc_core.world.words import COLOURS, DIRECTIONS

CLEAN = WorldConfig(noise=0, brightness_drift=0, shake=0.0, size_px=64)
KNOWN_FRAMES = "f996c7313033687456a8de132bcbf488a15e5b1980ab591dc2cbf9bf4b956bbb"
"""sha256 of FINGERPRINT's frames. The shipped checkpoints were trained on this world: a change here
means that they must be trained again."""
FINGERPRINT = """
import hashlib, sys
from marc_core.world import WorldConfig, make_questions, render_frames, sample_video, write_mp4
video = sample_video(7, WorldConfig(size_px=48, max_scenes=3, scene_lengths_s=(2.2,)))
frames = render_frames(video, [i / 5 for i in range(int(video.duration_s * 5))])
for data in (frames.tobytes(), repr(make_questions(video, seed=3)).encode(),
             write_mp4(video, sys.argv[1]).read_bytes()):
    print(hashlib.sha256(data).hexdigest())
"""


def _run(code: str, argument: object, **environment: str) -> list[str]:
    command = [sys.executable, "-c", code, str(argument)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_frames_questions_and_files_are_the_same_in_every_process(tmp_path: Path) -> None:
    one = _run(FINGERPRINT, tmp_path / "1.mp4", PYTHONHASHSEED="1")
    two = _run(FINGERPRINT, tmp_path / "2.mp4", PYTHONHASHSEED="2")
    assert len(one) == 3
    assert one == two
    assert one[0] == KNOWN_FRAMES


def test_frames_questions_and_files_are_the_same_on_an_older_processor(tmp_path: Path) -> None:
    """NumPy and the C library choose code by the processor's features; here they see few."""
    dispatched = _run("import numpy; print(*numpy._core._multiarray_umath.__cpu_dispatch__)", "")
    older = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(dispatched),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4,-AVX512F,-AVX512VL,-AVX512BW",
    }
    exponentials = (
        "import hashlib, numpy as np\n"
        "print(hashlib.sha256(np.exp(np.linspace(0, 20, 10007)).tobytes()).hexdigest())"
    )
    if _run(exponentials, "") == _run(exponentials, "", **older):
        pytest.skip("this processor has no features that could be hidden")
    here = _run(FINGERPRINT, tmp_path / "here.mp4")
    there = _run(FINGERPRINT, tmp_path / "there.mp4", **older)
    assert here == there


def _colour_point(video: WorldVideo, time_s: float, index: int, size: int) -> tuple[int, int]:
    """Return (row, column) of a pixel that is filled in every shape; a ring has a hole."""
    state = object_states(video, [time_s])[0][index]
    shift = 0.72 * state.radius if state.shape == "ring" else 0.0
    return int(state.y * size), int((state.x + shift) * size)


@pytest.mark.parametrize("size", [56, 64, 112, 200])
def test_the_pixel_at_an_objects_centre_has_its_colour(size: int) -> None:
    checked = 0
    for seed in range(6):
        video = sample_video(seed, CLEAN)
        for event in video.events:
            time_s = event.start_s + 0.5 * event.duration_s
            frame = render_frames(video, [time_s], size=size)[0]
            states = object_states(video, [time_s])[0]
            for state in states:
                if not state.visible or event.objects[state.index].partner is not None:
                    continue
                row, column = _colour_point(video, time_s, state.index, size)
                assert tuple(frame[row, column].tolist()) == COLOURS[state.colour]
                checked += 1
    assert checked > 30


def test_what_is_not_visible_leaves_no_pixel_of_its_colour() -> None:
    config = WorldConfig(
        noise=0, brightness_drift=0, shake=0.0, actions=("vanishes", "blinks", "hides")
    )
    checked = 0
    for seed in range(8):
        video = sample_video(seed, config)
        for event in video.events:
            clear = event.start_s + 0.25 * event.duration_s
            for time_s in np.arange(clear, event.end_s - 0.25 * event.duration_s, 0.5):
                frame = render_frames(video, [time_s], size=96)[0]
                for state in object_states(video, [time_s])[0]:
                    same = np.all(frame == np.array(COLOURS[state.colour]), axis=-1).any()
                    hiding = event.objects[state.index].action == "hides"
                    assert same == state.visible or (hiding and state.visible)
                    checked += not state.visible
    assert checked > 10


@pytest.mark.parametrize("direction", sorted(DIRECTIONS))
def test_pixels_of_a_mover_move_the_stated_way(direction: str) -> None:
    config = WorldConfig(
        noise=0, brightness_drift=0, shake=0.0, actions=("moves",), max_objects=1, min_scenes=6
    )
    dx, dy = DIRECTIONS[direction]
    checked = 0
    for seed in range(12):
        video = sample_video(seed, config)
        for event in video.events:
            thing = event.objects[0]
            if thing.direction != direction:
                continue
            start_s, end_s = (event.start_s + t for t in (thing.path[0][0], thing.path[-1][0]))
            first, last = render_frames(video, [start_s, end_s], size=100)
            colour = np.array(COLOURS[thing.colour])
            before, after = (
                np.argwhere(np.abs(f.astype(int) - colour).sum(-1) < 9).mean(0)
                for f in (first, last)
            )
            way = (after - before) / 100
            assert way[1] * dx + way[0] * dy > 0.2
            assert abs(way[1] * dy) + abs(way[0] * dx) < 0.03
            checked += 1
    assert checked >= 5


def test_a_cut_shows_one_scene_and_a_dissolve_mixes_both() -> None:
    for weights, mixed in ((("cut_weight",), False), (("dissolve_weight",), True)):
        kinds = {"cut_weight": 0.0, "dissolve_weight": 0.0, "slow_weight": 0.0}
        kinds |= dict.fromkeys(weights, 1.0)
        config = WorldConfig(noise=0, brightness_drift=0, shake=0.0, size_px=32, **kinds)
        video = sample_video(2, config)
        at_s = video.transitions[0].time_s
        before, just, after = render_frames(video, [at_s - 0.9, at_s, at_s + 0.9]).astype(int)
        low, high = np.minimum(before, after), np.maximum(before, after)
        corner = just[0, 0]
        inside = np.all((corner >= low[0, 0] - 1) & (corner <= high[0, 0] + 1))
        differs = np.abs(corner - after[0, 0]).max() > 3
        assert inside
        assert differs == mixed


def test_nuisances_disturb_within_their_limits() -> None:
    clean = sample_video(4, CLEAN)
    times_s = [0.25 * i for i in range(40)]
    for values, limit in (({"noise": 5}, 5), ({"brightness_drift": 14}, 14)):
        noisy = sample_video(4, WorldConfig(**{**_plain(), **values}))
        change = render_frames(noisy, times_s).astype(int) - render_frames(clean, times_s)
        assert 0 < np.abs(change).max() <= limit
    shaken = sample_video(4, WorldConfig(**{**_plain(), "shake": 0.02}))
    assert (render_frames(shaken, times_s) != render_frames(clean, times_s)).any()


def _plain() -> dict[str, float]:
    return {"noise": 0, "brightness_drift": 0, "shake": 0.0, "size_px": 64}


def test_a_frame_does_not_depend_on_its_neighbours_in_the_call() -> None:
    video = sample_video(3)
    together = render_frames(video, [1.0, 9.0, 3.3], size=56)
    for i, time_s in enumerate((1.0, 9.0, 3.3)):
        assert (render_frames(video, [time_s], size=56)[0] == together[i]).all()


def test_wrong_times_and_sizes_are_refused() -> None:
    video = sample_video(0)
    assert render_frames(video, [video.duration_s]).shape == (1, 112, 112, 3)
    assert render_frames(video, []).shape == (0, 112, 112, 3)
    with pytest.raises(ValueError, match="Times must be in"):
        render_frames(video, [-0.1])
    with pytest.raises(ValueError, match="16 pixels or more"):
        render_frames(video, [0.0], size=8)


def test_drawing_at_twice_the_size_shows_the_same_picture() -> None:
    video = sample_video(6, CLEAN)
    small, large = (render_frames(video, [1.1], size=s)[0].astype(int) for s in (64, 128))
    halved = large.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(halved - small).mean() < 3


def test_questions_never_change_the_video() -> None:
    video = sample_video(11)
    before = hashlib.sha256(render_frames(video, [2.0]).tobytes()).hexdigest()
    make_questions(video, seed=1)
    after = hashlib.sha256(render_frames(sample_video(11), [2.0]).tobytes()).hexdigest()
    assert before == after


def test_an_odd_size_has_no_mp4(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="even size_px"):
        write_mp4(sample_video(0, WorldConfig(size_px=57)), tmp_path / "x.mp4")
