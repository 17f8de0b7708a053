"""What is told of the events' text: within the budget, the question's words first."""

from marc_core.archive import SearchHit, TextLine
from marc_core.told import HEAD, said_block


def count(text):
    return len(text.split())


def hit(event_id="v:0000:00000", start_s=10.0):
    return SearchHit(
        event_id=event_id, video_id="v", uri="v.mp4", part=0, index=0, start_s=start_s,
        end_s=start_s + 10, video_start_s=10.0,
    )  # fmt: skip


def line(text, start_s, kind="speech"):
    return TextLine(kind=kind, start_s=start_s, end_s=start_s + 1, text=text)


def test_lines_come_in_order_of_time_with_when_and_how():
    lines = {"v:0000:00000": [line("the code is  1234", 12.5), line("EXIT", 15.0, "writing")]}
    block = said_block([hit()], lines, "What?", 100, count)
    assert block == f"{HEAD}\n0:02.5 speech: the code is 1234\n0:05.0 writing: EXIT"


def test_words_of_the_question_come_first_and_the_budget_holds():
    lines = {"v:0000:00000": [line(f"filler number {i}", 11.0 + i) for i in range(6)]}
    lines["v:0000:00000"].append(line("the door code is 1234", 19.0))
    block = said_block([hit()], lines, "Which code opens the doors?", 20, count)
    assert "1234" in block
    assert count(block) <= 20
    assert "filler number 0" in block
    assert "filler number 5" not in block


def test_a_line_of_two_events_is_told_once():
    across = line("said across the cut", 19.5)
    lines = {"a": [across], "b": [across]}
    block = said_block([hit("a"), hit("b", 20.0)], lines, "What?", 100, count)
    assert block.count("across") == 1


def test_a_line_that_is_too_long_is_cut_and_none_is_none():
    lines = {"v:0000:00000": [line("one two three four five six", 11.0)]}
    block = said_block([hit()], lines, "What?", 12, count)
    assert block.endswith("speech: one two three four")
    assert said_block([hit()], lines, "What?", 3, count) == ""
    assert said_block([hit()], {}, "What?", 100, count) == ""
