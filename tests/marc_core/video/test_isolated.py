import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.odd_media import write_numbers
from marc_core.config import VideoConfig
from marc_core.errors import (
    DecoderCrashError,
    DecodeTimeoutError,
    EmptyVideoError,
    UnreadableVideoError,
    VideoLimitError,
)
from marc_core.video import IsolatedDecoder, decode, process, read_frames

CONFIG = VideoConfig(chunk_frames=7)

HANGS = "import time, sys; sys.stdin.readline(); time.sleep(60)"
CRASHES = """
import os, signal, sys
sys.stdin.readline()
print("decoder chatter", file=sys.stderr)
print("the last word", file=sys.stderr, flush=True)
os.kill(os.getpid(), signal.SIGSEGV)
"""
ALIVE_FOR_EVER = """
import sys, time
from marc_core.video import wire
sys.stdin.readline()
while True:
    wire.send(int(sys.argv[1]), "alive", {}, {})
    time.sleep(0.05)
"""
SHARES_A_CORE = """
import os, subprocess, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
sys.stdin.readline()
busy = f"import time\\nwhile time.monotonic() < {time.monotonic() + 30}: pass"
hog = [sys.executable, "-c", busy]
hogs = [subprocess.Popen(hog, close_fds=True) for _ in range(4)]
time.sleep(0.5)
while time.process_time() < 0.8:
    pass
for hog in hogs:
    hog.kill()
"""
CHATTERS = """
import sys
sys.stdin.readline()
sys.stderr.write("chatter\\n" * 100_000)
sys.exit(3)
"""


def fake(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program)


def arrays(chunks):
    names = ("times_s", "shot_frames", "sampled_index", "sampled_frames")
    return [{name: getattr(chunk, name) for name in names} for chunk in chunks]


def assert_equal_chunks(left, right):
    assert len(left) == len(right)
    for a, b in zip(arrays(left), arrays(right), strict=True):
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])


def test_isolated_equals_in_process_over_many_videos_and_one_child(odd: Path):
    pids = set()
    with IsolatedDecoder(CONFIG) as decoder:
        for name in ("h264.mp4", "vfr.mp4", "rotated_90.mov", "damaged.mp4", "size_change.ts"):
            with decoder.open(odd / name) as stream:
                chunks = list(stream)
            with decode(odd / name, CONFIG) as decoding:
                assert_equal_chunks(chunks, list(decoding))
            assert stream.info == decoding.info
            assert stream.summary == decoding.summary
            times = decoding.summary.start_s, decoding.summary.start_s + 1.0
            if name == "h264.mp4":
                got = decoder.read_frames(odd / name, times)
                np.testing.assert_array_equal(got, read_frames(odd / name, times, CONFIG))
            pids.add(decoder.child_pid)
    assert len(pids) == 1


def test_a_bad_file_costs_neither_the_child_nor_the_next_file(odd: Path):
    with IsolatedDecoder(CONFIG) as decoder:
        with decoder.open(odd / "h264.mp4") as stream:
            list(stream)
        pid = decoder.child_pid
        for name, kind in [
            ("text.mp4", UnreadableVideoError),
            ("half_index_at_front.mp4", EmptyVideoError),
            ("above_8k.mkv", VideoLimitError),
        ]:
            with pytest.raises(kind, match=name):
                decoder.open(odd / name)
        with pytest.raises(UnreadableVideoError, match="no frame at"):
            decoder.read_frames(odd / "h264.mp4", [0.033])
        with decoder.open(odd / "h264.mp4") as stream:
            assert sum(len(chunk.times_s) for chunk in stream) == 30
        assert decoder.child_pid == pid


def test_a_video_left_early_is_followed_by_a_fresh_child(odd: Path):
    with IsolatedDecoder(CONFIG) as decoder:
        with decoder.open(odd / "h264.mp4") as stream:
            next(iter(stream))
            pid = decoder.child_pid
        assert decoder.child_pid is None
        with decoder.open(odd / "vp9.webm") as stream:
            assert sum(len(chunk.times_s) for chunk in stream) == 30
        assert decoder.child_pid != pid


def test_a_silent_decoder_is_killed(odd: Path):
    config = replace(CONFIG, stall_timeout_s=0.3)
    with IsolatedDecoder(config, command=fake(HANGS)) as decoder:
        start = time.monotonic()
        with pytest.raises(DecodeTimeoutError, match=r"no frame of '.*h264.mp4' for 0.3 s"):
            decoder.open(odd / "h264.mp4")
        assert time.monotonic() - start < 5
        assert decoder.child_pid is None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
@pytest.mark.slow  # its times are those of a machine that is not overloaded
def test_what_a_decoder_waits_for_a_core_is_no_stall(odd: Path):
    config = replace(CONFIG, stall_timeout_s=1.8)
    with IsolatedDecoder(config, command=fake(SHARES_A_CORE)) as decoder:
        start = time.monotonic()
        with pytest.raises(DecoderCrashError, match="exit code 0"):  # it got to its end
            decoder.open(odd / "h264.mp4")
        assert time.monotonic() - start > 1.8


def test_a_decoder_that_never_ends_meets_its_deadline(odd: Path):
    config = replace(CONFIG, stall_timeout_s=20.0, deadline_per_video_s=1.0)
    with IsolatedDecoder(config, command=fake(ALIVE_FOR_EVER)) as decoder:
        with pytest.raises(DecodeTimeoutError, match="longer than 1 s"):
            decoder.open(odd / "h264.mp4")
        assert decoder.child_pid is None


def test_a_crash_tells_signal_and_last_words(odd: Path):
    with IsolatedDecoder(CONFIG, command=fake(CRASHES)) as decoder:
        with pytest.raises(DecoderCrashError, match="SIGSEGV; the last word"):
            decoder.open(odd / "h264.mp4")
        assert decoder.child_pid is None


def test_endless_chatter_does_not_block(odd: Path):
    with (
        IsolatedDecoder(CONFIG, command=fake(CHATTERS)) as decoder,
        pytest.raises(DecoderCrashError, match="exit code 3; chatter"),
    ):
        decoder.open(odd / "h264.mp4")


def test_a_real_child_killed_in_mid_video_is_a_crash_and_is_replaced(odd: Path, tmp_path: Path):
    """The clip's samples are many times what the pipe holds, so the child cannot have ended."""
    path = write_numbers(tmp_path / "long.mkv", count=250, codec="mjpeg", pix_fmt="yuvj420p",
                         size=(640, 360))  # fmt: skip
    config = replace(CONFIG, sample_fps=100.0, frame_max_pixels=640 * 360)
    with IsolatedDecoder(config) as decoder:
        with decoder.open(path) as stream:
            chunks = iter(stream)
            sampled = next(chunks).sampled_frames
            assert 250 // len(sampled) * sampled.nbytes > 20 * process._PIPE_BYTES
            os.kill(decoder.child_pid, signal.SIGKILL)
            with pytest.raises(DecoderCrashError, match="SIGKILL"):
                list(chunks)
        with decoder.open(odd / "h264.mp4") as stream:
            assert sum(len(chunk.times_s) for chunk in stream) == 30


def test_too_little_memory_is_a_limit_of_the_video(odd: Path):
    config = replace(CONFIG, child_memory_bytes=64 * 1024**2)
    with (
        IsolatedDecoder(config) as decoder,
        pytest.raises(VideoLimitError, match="child_memory_bytes"),
        decoder.open(odd / "8k.mp4") as stream,
    ):
        list(stream)


def test_the_child_dies_with_its_parent(odd: Path):
    program = (
        "import sys, time\n"
        "from marc_core.config import VideoConfig\n"
        "from marc_core.video import IsolatedDecoder\n"
        "decoder = IsolatedDecoder(VideoConfig(chunk_frames=1))\n"
        "stream = decoder.open(sys.argv[1])\n"
        "print(decoder.child_pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(odd / "8k.mp4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and not _is_zombie(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_an_interrupt_of_the_terminal_does_not_reach_the_child(odd: Path):
    """Ctrl-C goes to the whole foreground group: whoever decodes decides what ends."""
    program = """
import os, signal, sys
from marc_core.config import VideoConfig
from marc_core.video import IsolatedDecoder

signal.signal(signal.SIGINT, lambda *_: None)
with IsolatedDecoder(VideoConfig()) as decoder:
    decoder.read_frames(sys.argv[1], [0.0])
    child = decoder.child_pid
    os.killpg(0, signal.SIGINT)
    print(len(decoder.read_frames(sys.argv[1], [0.0, 0.4])), decoder.child_pid == child)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(odd / "h264.mp4")],
        capture_output=True, text=True, timeout=60, start_new_session=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["2", "True"]


def test_a_child_that_died_between_videos_is_no_fault_of_the_next(odd: Path):
    with IsolatedDecoder(CONFIG) as decoder:
        with decoder.open(odd / "h264.mp4") as stream:
            list(stream)
        os.kill(decoder.child_pid, 9)
        os.waitid(os.P_PID, decoder.child_pid, os.WEXITED | os.WNOWAIT)
        with decoder.open(odd / "h264.mp4") as stream:
            assert sum(len(chunk.times_s) for chunk in stream) == 30


def test_a_slow_reader_is_no_stall_of_the_decoder(odd: Path):
    config = replace(CONFIG, chunk_frames=1, sample_fps=100.0)
    with IsolatedDecoder(config) as decoder:
        with decoder.open(odd / "h264.mp4") as stream:
            list(stream)
        decoder._config = replace(config, stall_timeout_s=0.5)
        with decoder.open(odd / "size_change.ts") as stream:
            for count, _ in enumerate(stream):
                if count == 0:
                    time.sleep(0.8)
            assert stream.summary.num_frames == 60


def test_the_child_starts_light():
    program = (
        "import sys, marc_core.video.child\n"
        "heavy = {'torch', 'pyarrow', 'lancedb', 'decord', 'omegaconf', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == "[]"


def test_it_starts_from_any_folder(odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "av.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    with IsolatedDecoder(CONFIG) as decoder, decoder.open(odd / "h264.mp4") as stream:
        assert sum(len(chunk.times_s) for chunk in stream) == 30
