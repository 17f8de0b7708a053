"""The lines that hold a search's words, compared as the full-text index compares them."""

import lancedb
import pyarrow as pa
import pytest
from lancedb.query import MatchQuery

from marc_core.archive import TextLine
from marc_core.memory.tables import text_index
from marc_core.text.matching import MOST_LINES, marked

TEXTS = [
    "Mind the gap", "The doors are closing", "a closed café", "CAFE 24/7", "gap, mind", "x-ray",
    "Straße 7b", "it is", "running runs ran", "généreusement", "don't",
]  # fmt: skip
ODD = [
    "gap AND (doors OR mind)",
    "gap: -mind +it*",
    'mind" "gap',
    '"',
    '""',
    "🚲",
    "漢字",
    "\\",
    "a" * 600,
]
"""Operators of other languages are words, or nothing."""
QUERIES = [
    *ODD,
    "door",
    "cafe",
    "the gap",
    "closes",
    "ran",
    "run",
    "24",
    "x ray",
    "7b",
    "is",
    "dont",
]


def line(text, start_s=0.0):
    return TextLine(kind="speech", start_s=start_s, end_s=start_s + 1, text=text)


def words(found):
    return [[one.text[start:end] for start, end in one.words] for one in found]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    db = lancedb.connect(str(tmp_path_factory.mktemp("fts")))
    table = db.create_table("texts", pa.table({"text": TEXTS}))
    table.create_index("text", config=text_index())
    return table


@pytest.mark.parametrize("query", QUERIES)
def test_the_index_and_what_is_marked_agree(table, query):
    hits = table.search(MatchQuery(query, "text"), query_type="fts", fts_columns="text")
    found = {row["text"] for row in hits.limit(50).to_arrow().to_pylist()}
    assert {one.text for one in marked(map(line, TEXTS), query)} == found


def test_words_are_marked_where_they_stand():
    found = marked([line("The doors: DOORS closing")], "door closes")
    assert words(found) == [["doors", "DOORS", "closing"]]


def test_a_phrase_marks_whole_occurrences_only():
    lines = [line("mind the gap, please mind the gap"), line("gap, mind")]
    assert words(marked(lines, '"mind gap"')) == [["mind", "gap", "mind", "gap"]]


def test_quotes_around_a_part_are_no_phrase():
    text = '"gap" and "mind"'
    assert words(marked([line("Mind the gap")], text)) == [["Mind", "gap"]]
    assert words(marked([line("Mind the gap")], ' "mind the gap" ')) == [["Mind", "gap"]]


def test_lines_are_in_order_of_time_and_the_best_of_many():
    many = [line("gap", start_s=i) for i in range(20)] + [line("mind the gap", start_s=99)]
    found = marked(reversed(many), "mind gap")
    assert len(found) == MOST_LINES
    assert [one.start_s for one in found] == sorted(one.start_s for one in found)
    assert found[-1].text == "mind the gap"


def test_nothing_of_stop_words_alone():
    assert marked([line("it is the end")], "is it the") == []
