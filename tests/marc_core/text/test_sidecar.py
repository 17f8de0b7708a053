"""What lies beside a video is read, or said; it never costs the video."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import pytest

from marc_core.text import Caption, Sidecar, read_sidecar
from marc_core.types import VideoSource
from marc_core.video import list_videos
from marc_core.video.beside import texts_fingerprint

SRT = "1\n00:00:0{0},000 --> 00:00:0{0},900\n{1}\n"


def listed(folder: Path, name: str = "clip.mp4", **files: str | bytes) -> VideoSource:
    """Write `files` (name with __ for dots) beside a video and list it."""
    (folder / name).touch()
    for written, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / written.replace("__", ".")).write_bytes(data)
    found = {s.uri: s for s in list_videos([str(folder)], ["*.mp4"], {})}
    return found[str(folder / name)]


def test_no_files_is_an_empty_sidecar(tmp_path: Path):
    sidecar = read_sidecar(listed(tmp_path), {})
    assert sidecar == Sidecar()
    assert sidecar.text_between(0, 100) is None


def test_captions_and_metadata(tmp_path: Path):
    data = '{"camera": "gate 3", "tags": ["night"], "recorded_at": "2026-03-01T22:15:00+01:00"}'
    source = listed(
        tmp_path, clip__srt=SRT.format(1, "Good"), clip__vtt=SRT.format(1, "other"), clip__json=data
    )
    sidecar = read_sidecar(source, {})
    assert sidecar.captions == (Caption(start_s=1.0, end_s=1.9, text="Good", file="clip.srt"),)
    assert (sidecar.camera, sidecar.tags, sidecar.warnings) == ("gate 3", ("night",), ())
    assert sidecar.recorded_at == dt.datetime(2026, 3, 1, 21, 15, tzinfo=dt.UTC)
    assert Sidecar.from_json(json.loads(json.dumps(sidecar.to_json()))) == sidecar
    assert VideoSource.from_json(source.to_json()) == source


def test_upper_case_and_languages(tmp_path: Path):
    source = listed(
        tmp_path,
        "DJI_1.MP4",
        DJI_1__SRT=SRT.format(1, "zebra"),
        DJI_1__en__srt=SRT.format(2, "donkey"),
        **{"DJI_1__pt-BR__sdh__VTT": SRT.format(3, "mula")},
    )
    found = [(c.text, c.language) for c in read_sidecar(source, {}).captions]
    assert found == [("zebra", None), ("donkey", "en"), ("mula", "pt-BR")]


def test_files_go_to_the_longest_name_that_fits(tmp_path: Path):
    (tmp_path / "clip.en.mp4").touch()
    source = listed(
        tmp_path, clip__en__srt=SRT.format(1, "theirs"), clip__de__srt=SRT.format(1, "ours"),
        clip__part2__srt=SRT.format(1, "nobody's"), clip2__srt=SRT.format(1, "nobody's"),
    )  # fmt: skip
    assert [c.text for c in read_sidecar(source, {}).captions] == ["ours"]
    other = read_sidecar(listed(tmp_path, "clip.en.mp4"), {})
    assert [(c.text, c.language) for c in other.captions] == [("theirs", None)]


def test_a_video_that_is_named_itself_has_its_sidecars(tmp_path: Path):
    source = listed(tmp_path, clip__en__srt=SRT.format(1, "a"), clip__json="{}")
    assert list(list_videos([source.uri], ["*.mp4"], {})) == [source]
    assert list(list_videos([f"file://{source.uri}"], ["*.mp4"], {})) == [source]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("clip.srt", b"1\n00:00 -> 1 --> x\nhello", "1 caption skipped: their times cannot be"),
        ("clip.srt", b"1\n-00:00:05,000 --> 00:00:01,000\nhello", "times are negative"),
        ("clip.srt", b"\xff\xfeh", "holds no caption"),
        ("clip.srt", b"just words", "no caption that can be read as srt"),
        ("clip.ttml", b"<tt/>", "is not read. Captions come from .srt"),
        ("clip.json", b"[1]", "one JSON object. Got list"),
        ("clip.json", b"{", "one JSON object"),
        ("clip.json", b'{"cam": "x", "camera": "gate"}', "Left out: cam"),
        ("clip.json", b'{"camera": 3}', "camera must be text. Got 3"),
        ("clip.json", b'{"tags": "night"}', "tags must be a list"),
        ("clip.json", b'{"recorded_at": "2026-03-01T22:15:00"}', "UTC offset"),
        ("clip.json", b'{"recorded_at": "0001-01-01T00:00:00+14:00"}', "between the years"),
        ("clip.json", b'{"recorded_at": 12}', "UTC offset"),
        ("clip.json", b'{"camera": "\\ud83d gate"}', "camera must be text"),
        ("clip.json", b'{"\\ud83d": 1}', "Left out: ?"),
    ],
)
def test_what_cannot_be_read_is_a_warning(tmp_path: Path, name: str, content: bytes, words: str):
    source = listed(tmp_path, **{name.replace(".", "__"): content})
    sidecar = read_sidecar(source, {})
    (warning,) = sidecar.warnings
    assert warning.startswith(f"sidecar {name}: ")
    assert words in warning
    assert sidecar.captions == ()
    assert sidecar.fingerprint == texts_fingerprint(source.sidecars)  # not read again in vain


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "is a folder, not a file"),
        (os.mkfifo, "is a pipe, socket or device, not a file"),
        (lambda path: path.symlink_to("nowhere"), "is a link that leads nowhere"),
        (lambda path: path.symlink_to("/proc/self/mem"), "cannot be read: Input/output error"),
        (lambda path: (path.touch(), os.truncate(path, 1 << 30)), "has 1,073,741,824 bytes"),
    ],
)
def test_what_is_no_readable_file_is_a_warning_and_never_hangs(tmp_path: Path, make, words: str):
    make(tmp_path / "clip.srt")
    source = listed(tmp_path, clip__json='{"camera": "gate"}')
    (named,) = list_videos([source.uri], ["*.mp4"], {})
    assert named == source
    sidecar = read_sidecar(source, {})
    assert (sidecar.camera, sidecar.captions) == ("gate", ())
    (warning,) = sidecar.warnings
    assert warning.startswith("sidecar clip.srt: ")
    assert words in warning


def test_the_good_half_of_a_file_counts(tmp_path: Path):
    sidecar = read_sidecar(listed(tmp_path, clip__json='{"camera": "a", "tags": 1}'), {})
    assert (sidecar.camera, len(sidecar.warnings)) == ("a", 1)


def test_a_file_that_cannot_be_fetched_is_read_by_the_next_run(tmp_path: Path):
    source = listed(tmp_path, clip__srt=SRT.format(1, "a"), clip__json='{"camera": "gate"}')
    (tmp_path / "clip.srt").unlink()
    sidecar = read_sidecar(source, {})
    assert sidecar.camera == "gate"
    assert sidecar.warnings == ("sidecar clip.srt: no longer exists. The next run looks again.",)
    assert sidecar.fingerprint != texts_fingerprint(source.sidecars)


def test_the_fingerprint_follows_the_files(tmp_path: Path):
    seen = {texts_fingerprint(listed(tmp_path).sidecars)}
    seen.add(texts_fingerprint(listed(tmp_path, clip__srt=SRT.format(1, "a")).sidecars))
    os.utime(tmp_path / "clip.srt", ns=(1, 1))
    seen.add(texts_fingerprint(listed(tmp_path).sidecars))
    seen.add(texts_fingerprint(listed(tmp_path, clip__json="{}").sidecars))
    assert len(seen) == 4
    (tmp_path / "clip.json").unlink()
    assert texts_fingerprint(listed(tmp_path).sidecars) in seen


def captions(*spans: tuple[float, float]) -> Sidecar:
    return Sidecar(
        captions=tuple(Caption(start_s=s, end_s=e, text="x", file="clip.srt") for s, e in spans)
    )


def test_captions_count_from_the_first_picture():
    """As players count: a recorder's clock starts at 50,000 s, the captions at zero."""
    moved = captions((4.5, 5.5), (9.0, 12.0)).on_clock_of(50_000.0, 50_010.0)
    assert [(c.start_s, c.end_s) for c in moved.captions] == [(50004.5, 50005.5), (50009, 50012)]
    assert moved.warnings == ()


def test_captions_that_fit_only_the_sources_clock_stay():
    moved = captions((50_004.5, 50_005.5), (49_000.0, 49_001.0)).on_clock_of(50_000.0, 50_010.0)
    assert [c.start_s for c in moved.captions] == [50_004.5]
    assert moved.warnings == ("sidecar clip.srt: 1 of 2 captions lie outside the video.",)


def test_captions_that_fit_both_clocks_count_from_zero():
    moved = captions((12.0, 13.0), (90.0, 91.0)).on_clock_of(10.0, 110.0)
    assert [c.start_s for c in moved.captions] == [22.0, 100.0]


def test_captions_outside_the_video_are_said():
    moved = captions((4.0, 5.0), (20.0, 21.0)).on_clock_of(0.0, 10.0)
    assert [c.start_s for c in moved.captions] == [4.0]
    assert moved.warnings == ("sidecar clip.srt: 1 of 2 captions lie outside the video.",)


def test_text_between_is_half_open():
    sidecar = Sidecar(captions=(Caption(start_s=1.0, end_s=2.0, text="a"),))
    assert sidecar.text_between(0.0, 1.0) is None
    assert sidecar.text_between(2.0, 3.0) is None
    assert sidecar.text_between(1.9, 3.0) == "a"
