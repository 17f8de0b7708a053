"""Captions keep their words and times; what cannot be read is skipped and said."""

from __future__ import annotations

import pytest

from marc_core.errors import SourceError
from marc_core.text.captions import decode_text, parse_captions

SRT = "1\n00:00:00,500 --> 00:00:01,500\n{}\n\n2\n00:00:04,500 --> 00:00:05,500\n{}\n\n"
STYLED = """WEBVTT - x

STYLE
::cue{color:red}

NOTE a comment

id-1
00:00.500 --> 00:01.500 align:start position:10%
<v Bob>rock &amp; roll <c.y>badger</c>&nbsp;&lt;3

NOTE between
two cues

second
100:00:02.000 --> 100:00:03.000
too late

01:00:00.000 --> 01:00:01.000
Bye <00:00:00.500>now
"""
ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname
Style: Default,Arial

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\i1}Hello{\\i0},\\Nworld {a remark}[waves]
Comment: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,not shown
Dialogue: 0,0:00:05.00,0:00:06.00,Default,,0,0,0,,{\\p1}m 0 0 l 1 1{\\p0}
Dialogue: 0,-0:00:07.00,0:00:08.00,Default,,0,0,0,,too early
"""


def said(text: str, ending: str = ".srt") -> list[tuple[float, float, str]]:
    return [(c.start_s, c.end_s, c.text) for c in parse_captions(text, ending)[0]]


def test_a_caption_may_hold_an_arrow():
    assert said(SRT.format("the map goes x --> y", "two")) == [
        (0.5, 1.5, "the map goes x --> y"),
        (4.5, 5.5, "two"),
    ]


@pytest.mark.parametrize(
    "words",
    [
        "[music] penguin walks",
        "[/i] penguin sleeps",
        "{laughs}",
        "<laughs> at us",
        "a < b and c > d",
        "AT&T; Q&A",
        "12",
    ],
)
def test_words_are_kept(words: str):
    assert said(SRT.format(words, "two"))[0][2] == words


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("<i>Good</i> morning,\n{\\an8}everyone.", "Good morning, everyone."),
        ('<font color="red">red</font><br>next', "red next"),
        ("a\x1b[31mred\x07", "a [31mred"),
        ("Fish &amp; chips &#233;", "Fish & chips é"),
    ],
)
def test_markup_is_taken_off(written: str, words: str):
    assert said(SRT.format(written, "two"))[0][2] == words


def test_webvtt_comments_styles_and_names_are_no_words():
    assert said(STYLED, ".vtt") == [
        (0.5, 1.5, "rock & roll badger <3"),
        (3600.0, 3601.0, "Bye now"),
    ]
    assert parse_captions(STYLED, ".vtt")[1].sentences() == [
        "1 caption skipped: they are later than 99 hours."
    ]


def test_substation_alpha():
    assert said(ASS, ".ass") == [(1.0, 2.5, "Hello, world [waves]")]
    assert parse_captions(ASS, ".ass")[1].reasons == {"their times are negative": 1}
    assert said(
        ASS.replace("V4+ Styles", "V4 Styles").replace("Dialogue: 0", "Dialogue: Marked=0"), ".ssa"
    )


@pytest.mark.parametrize(
    ("timing", "reason"),
    [
        ("-00:00:01,000 --> 00:00:02,000", "their times are negative"),
        ("00:00:-1,000 --> 00:00:02,000", "their times cannot be read"),
        ("00:00 -> 1 --> x", "their times cannot be read"),
        ("00:00:05,000 --> 00:00:01,000", "they end before they start"),
        ("100:00:00,000 --> 100:00:01,000", "they are later than 99 hours"),
    ],
)
def test_a_cue_that_cannot_be_read_is_skipped_and_said(timing: str, reason: str):
    text = f"1\n00:00:00,000 --> 00:00:00,500\nbefore\n\n2\n{timing}\nlost\n\n" + SRT.format(
        "a", "b"
    )
    captions, skipped = parse_captions(text, ".srt")
    assert [c.text for c in captions] == ["before", "a", "b"]
    assert [r for r in skipped.reasons if r.startswith(reason)]
    assert sum(skipped.reasons.values()) == 1


def test_times_without_hours_fraction_or_padding():
    text = "1\n0:1:02 --> 0:1:03.5\na\n\n2\n01:04,25 --> 1:05,000\nb\n"
    assert said(text) == [(62.0, 63.5, "a"), (64.25, 65.0, "b")]


@pytest.mark.parametrize("text", ["hello", "{}", "[V4+ Styles]"])
@pytest.mark.parametrize("ending", [".srt", ".ass"])
def test_a_file_without_captions_is_refused(text: str, ending: str):
    with pytest.raises(SourceError, match="no caption"):
        parse_captions(text, ending)


def test_an_empty_file_has_no_captions():
    assert parse_captions("", ".srt")[0] == parse_captions("WEBVTT\n", ".vtt")[0] == ()


WORDS = "café crème", "über"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-32"])
def test_western_encodings(encoding: str):
    text = SRT.format(*WORDS)
    decoded, remark = decode_text(text.encode(encoding))
    assert decoded == text
    assert (remark is None) == encoding.startswith("utf")


def test_utf_8_with_a_spoilt_byte_keeps_all_its_other_letters():
    data = SRT.format("þorn ŋéw code", "brXken").encode().replace(b"X", b"\xff")
    text, remark = decode_text(data)
    assert [c for _, _, c in said(text)] == ["þorn ŋéw code", "br\ufffdken"]
    assert remark == "1 bytes are no UTF-8 and are shown as \ufffd."


@pytest.mark.parametrize("columns", ["Layer, Start, End, Text", "Start,End,Style,Layer,Text"])
def test_other_columns_of_ass(columns: str):
    values = {"Layer": "0", "Start": "0:00:01.00", "End": "0:00:02.50", "Style": "Default"}
    names = [name.strip() for name in columns.split(",")]
    cells = ",".join(values.get(name, "hello, world") for name in names)
    text = (
        "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\n\n[Events]\n"
        f"Format: {columns}\nDialogue: {cells}\n"
    )
    assert said(text, ".ass") == [(1.0, 2.5, "hello, world")]
    with pytest.raises(SourceError, match="events without text"):
        parse_captions(text.replace("Text", "Txet"), ".ass")


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("utf-16-le", "Größe"),
        ("utf-16-be", "Größe"),
        ("cp1250", "Dzień dobry, proszę pana, gdzie jest łóżko?"),
        ("cp1251", "Привет, как дела сегодня?"),
        ("cp1253", "Καλημέρα σας, τι κάνετε"),
        ("koi8-r", "Привет, как дела сегодня?"),
        ("shift_jis", "おはようございます、元気ですか"),
        ("gb18030", "你好,今天天气怎么样"),
    ],
)
def test_other_encodings_are_guessed(encoding: str, words: str):
    text = SRT.format(words, words) * 5
    assert decode_text(text.encode(encoding))[0] == text


@pytest.mark.parametrize("data", [b"\xff\xfeh", bytes(range(256)) * 40, b"\x00\x01\x02\x03" * 99])
def test_bytes_that_are_no_text_are_refused(data: bytes):
    with pytest.raises(SourceError, match=r"no text|no caption"):
        parse_captions(decode_text(data)[0], ".srt")


@pytest.mark.timeout(60)  # the square of the length would take an hour
@pytest.mark.parametrize("line", [" " * 200_000 + "x", "<b " * 70_000, "1:" + "-" * 200_000])
def test_a_line_of_any_length_costs_no_more_than_its_length(line):
    text = f"1\n00:00:01,000 --> 00:00:02,000\n{line}\n\n2\n00:00:03,000 --> 00:00:04,000\nlater\n"
    captions, _ = parse_captions(text, ".srt")
    assert captions[-1].text == "later"
