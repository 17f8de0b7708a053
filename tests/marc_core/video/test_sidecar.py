import datetime as dt
import json
from pathlib import Path

import pytest

from marc_core.errors import SourceError
from marc_core.video import Caption, Sidecar, read_sidecar
from marc_core.video.sidecar import parse_captions

SRT = """\ufeff1
00:00:01,000 --> 00:00:02,500
<i>Good</i> morning,
{\\an8}everyone.

2
00:01:00,250 --> 00:01:02,000

3
01:00:00,000 --> 01:00:01,000
An hour later
"""
VTT = """WEBVTT

NOTE a comment

intro
00:01.000 --> 00:02.500 align:start position:0%
<v Ann>Hello

01:00:00.000 --> 01:00:01.000
Bye
"""


def test_no_files_is_an_empty_sidecar(tmp_path: Path):
    sidecar = read_sidecar(str(tmp_path / "clip.mp4"), {})
    assert sidecar == Sidecar()
    assert sidecar.text_between(0, 100) is None


def test_all_files(tmp_path: Path):
    (tmp_path / "clip.srt").write_text(SRT, encoding="utf-8")
    (tmp_path / "clip.vtt").write_text(VTT)
    (tmp_path / "clip.json").write_text(
        '{"camera": "gate 3", "tags": ["night"], "recorded_at": "2026-03-01T22:15:00+01:00"}'
    )
    sidecar = read_sidecar(str(tmp_path / "clip.mp4"), {})
    assert sidecar.captions == (
        Caption(start_s=1.0, end_s=2.5, text="Good morning, everyone."),
        Caption(start_s=3600.0, end_s=3601.0, text="An hour later"),
    )
    assert (sidecar.camera, sidecar.tags) == ("gate 3", ("night",))
    assert sidecar.recorded_at == dt.datetime(2026, 3, 1, 21, 15, tzinfo=dt.UTC)
    assert Sidecar.from_json(json.loads(json.dumps(sidecar.to_json()))) == sidecar


def test_file_addresses_work(tmp_path: Path):
    (tmp_path / "clip.json").write_text('{"camera": "gate"}')
    assert read_sidecar(f"file://{tmp_path}/clip.mp4", {}).camera == "gate"


def test_webvtt():
    texts = [(c.start_s, c.text) for c in parse_captions(VTT, "x.vtt")]
    assert texts == [(1.0, "Hello"), (3600.0, "Bye")]


def test_text_between_is_half_open():
    sidecar = Sidecar(captions=(Caption(start_s=1.0, end_s=2.0, text="a"),))
    assert sidecar.text_between(0.0, 1.0) is None
    assert sidecar.text_between(2.0, 3.0) is None
    assert sidecar.text_between(1.9, 3.0) == "a"


@pytest.mark.parametrize(
    ("ending", "content", "words"),
    [
        ("srt", b"1\n00:00 -> 1 --> x\nhello", "line 2: a timing reads"),
        ("srt", b"1\n00:00:05,000 --> 00:00:01,000\nhello", "must not end before"),
        ("srt", b"\xff\xfeh", "must be UTF-8"),
        ("json", b"[1]", "one JSON object. Got list"),
        ("json", b"{", "one JSON object"),
        ("json", b'{"cam": "x"}', "Got 'cam'"),
        ("json", b'{"camera": 3}', "camera must be text"),
        ("json", b'{"tags": "night"}', "tags must be a list"),
        ("json", b'{"recorded_at": "2026-03-01T22:15:00"}', "UTC offset"),
        ("json", b'{"recorded_at": 12}', "UTC offset"),
    ],
)
def test_broken_files_say_why(tmp_path: Path, ending, content, words):
    (tmp_path / f"clip.{ending}").write_bytes(content)
    with pytest.raises(SourceError, match=words):
        read_sidecar(str(tmp_path / "clip.mp4"), {})
