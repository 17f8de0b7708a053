"""Captions that pysubs2 and our own reader read back, whatever the words hold."""

from __future__ import annotations

import re
from dataclasses import replace

import pysubs2

from marc_core.export.webvtt import Cue, webvtt
from marc_core.text.captions import parse_captions

HOSTILE = "a --> b\n\n<v Bob>&amp; </c>\r\n\n00:00:01.000 --> 00:00:02.000\u2028NOTE \0"
CUES = [
    Cue(start_s=3661.5, end_s=3662.25, text=HOSTILE, id="e:--> 1\n2"),
    Cue(start_s=-0.5, end_s=1.0, text="first"),
    Cue(start_s=-2.0, end_s=-1.0, text="before"),
    Cue(start_s=5.0, end_s=5.0, text="short"),
    Cue(start_s=6.0, end_s=7.0, text=" \n"),
]


def test_the_form_is_the_standards() -> None:
    text = webvtt(CUES, note="/v/a-->b\n.mp4")
    blocks = text.removesuffix("\n").split("\n\n")
    assert blocks[:2] == ["WEBVTT", "NOTE /v/a->b .mp4"]
    assert blocks[2:4] == [
        "00:00:00.000 --> 00:00:01.000\nfirst", "00:00:05.000 --> 00:00:05.001\nshort"
    ]  # fmt: skip
    (last,) = blocks[4:]
    assert last.split("\n")[:2] == ["e:-> 1 2", "01:01:01.500 --> 01:01:02.250"]
    assert text.count("-->") == 3  # times alone: in words it is escaped
    assert "\0" not in text
    assert not re.search("<|&(?!amp;|lt;|gt;)", last)


def test_readers_get_the_words_back() -> None:
    # pysubs2 takes two times on a line for a cue's, whatever stands between them.
    text = webvtt([replace(cue, text=cue.text.replace("00:00:02.000", "2")) for cue in CUES])
    captions, skipped = parse_captions(text, ".vtt", file="a.vtt", language=None)
    assert not skipped.sentences()
    assert [(c.start_s, c.end_s) for c in captions] == [(0, 1), (5, 5.001), (3661.5, 3662.25)]
    assert "a --> b" in captions[2].text
    assert "<v Bob>&amp; </c>" in captions[2].text
    assert len(pysubs2.SSAFile.from_string(text, format_="vtt")) == 3
