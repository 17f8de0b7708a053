"""An open memory as a notebook has it: the documented example runs, and results render safely."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import marc_core
from marc_core.archive import SearchHit
from marc_core.display import Reply, Results, clock, escape, score_text
from marc_core.errors import AnswerError, MarcError
from marc_core.session import Session
from tests.marc_core.memories import CAPTION, ODD_NAME

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = (ROOT / "docs" / "notebook.md").read_text()
"""About the archive of `make demo`; here another takes its place."""
CELLS = [
    cell.replace("runs/demo/memory", "runs/memory").replace("world-0-00007000.mp4", "video1.mp4")
    for cell in re.findall(r"```python\n(.*?)```", NOTEBOOK, re.DOTALL)
]


@pytest.fixture(scope="module")
def session(small_memory: Path) -> Iterator[Session]:
    with marc_core.open(small_memory / "runs" / "memory") as session:
        yield session


def shown(cell: str) -> str:
    """Make a cell print what a notebook would show of its last expression."""
    tree = ast.parse(cell)
    last = tree.body[-1]
    if isinstance(last, ast.Expr) and not isinstance(last.value, ast.Call):
        source = ast.unparse(last.value)
        show = f"shown.append(({source})._repr_html_()); repr({source})"
        tree.body[-1:] = ast.parse(show).body
    return ast.unparse(tree)


def test_the_documented_notebook_runs(small_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_memory)
    names: dict[str, object] = {"shown": []}
    for cell in CELLS:
        exec(shown(cell), names)
    tables = names["shown"]
    assert isinstance(tables, list)
    assert len(tables) == 3  # events, hits, reply
    assert all("<table>" in html and "data:image/jpeg;base64," in html for html in tables)


def test_a_list_of_events_ranks_nothing_and_shows_no_score(session: Session) -> None:
    events = session.events("video1.mp4", limit=2)
    assert [score_text(event) for event in events] == ["", ""]
    (hit,) = session.search("a red circle", limit=1)
    assert score_text(hit) == f"{hit.cosine:.3f}"


def test_a_list_loads_no_model_a_search_no_student_and_nothing_draws_a_bar(
    small_memory: Path,
) -> None:
    code = (
        "import sys, marc_core\n"
        f"m = marc_core.open({str(small_memory / 'runs' / 'memory')!r})\n"
        "assert len(m.events('video1.mp4')) >= 4\n"
        "assert 'transformers' not in sys.modules and 'ray' not in sys.modules, 'too much loaded'\n"
        "assert len(m.search('a circle', limit=1)) == 1\n"
        "unwanted = ['student_files', 'adapters', 'vision_tower', 'transformers_engine']\n"
        "print([n for n in unwanted if f'marc_core.models.{n}' in sys.modules])\n"
        "from transformers.utils import logging\n"
        "print(logging.is_progress_bar_enabled(), logging.set_tqdm_hook(None))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240
    )
    assert ended.stdout.splitlines() == ["[]", "True None"]
    assert ended.stderr == ""


def test_a_search_loads_no_language_model(session: Session) -> None:
    with marc_core.open(session.config.memory.uri) as fresh:
        assert len(fresh.search("a circle", limit=2)) == 2
        assert not {"engine", "_tower"} & set(fresh.__dict__)


def test_names_and_captions_are_escaped(session: Session, small_memory: Path) -> None:
    hits = session.search("needle", limit=3)
    assert any(CAPTION in (hit.text or "") for hit in hits)
    html = hits._repr_html_()
    assert "door[blink]<b>" not in html
    assert "[bold red]door[blink]&lt;b&gt;.mp4" in html
    assert "[/i][music] 100% 1 &lt; 2 &amp; <mark>needle</mark>" in html
    assert "0:00.2 sidecar:" in html
    assert ODD_NAME in repr(hits)
    video = str(small_memory / "archive" / "b" / ODD_NAME)
    reply = session.ask("What happens?", video=video, options=["<u>a</u>", "b"])
    assert "<u>" not in reply._repr_html_()
    assert "door[blink]<b>" not in reply._repr_html_()


def test_results_are_sequences(session: Session) -> None:
    events = session.events("video1.mp4")
    assert isinstance(events[:2], Results)
    assert [e.index for e in events] == list(range(len(events)))
    assert repr(events).startswith(f"{len(events)} events\n  video1.mp4  0:00.0 - ")
    assert "nothing" not in repr(Results([], lambda ids: {}))


def test_filters_say_what_people_write(session: Session, small_memory: Path) -> None:
    sub = session.events(folder=str(small_memory / "archive" / "a"))
    assert {e.uri for e in sub} == {str(small_memory / "archive" / "a" / ODD_NAME)}
    address = quote(str(small_memory / "archive" / "a"))
    assert list(session.events(folder=f"file://{address}/")) == list(sub)
    assert list(session.events(folder=f"file://{address}/x/..")) == list(sub)
    with pytest.raises(AnswerError, match="2 videos called"):
        session.events(ODD_NAME)
    early = session.events("video1.mp4", end_s=2.0)
    assert [e.index for e in early] == [0]
    with pytest.raises(AnswerError, match="offset from UTC"):
        session.events(since="2026-05-01T08:00")
    with pytest.raises(AnswerError, match="whose clock it is cannot be known"):
        session.events(until="yesterday")
    with pytest.raises(AnswerError, match="ISO 8601"):
        session.events(until="long ago")
    none = session.events(since="1970-01-01T00:00Z")
    assert len(none) == 0
    assert repr(none).startswith("0 events. No video says when it was recorded")
    assert "No video says when" in none._repr_html_()
    with pytest.raises(AnswerError, match="Nothing in the memory has camera '<b>'"):
        session.ask("What happens?", camera="<b>")
    assert "camera &#x27;&lt;b&gt;&#x27;" in session.search("x", camera="<b>")._repr_html_()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda s: s.search("x", limit=-1), "limit must be a whole number from 1. Got -1."),
        (lambda s: s.search("x", offset=-3), "offset must be a whole number from 0. Got -3."),
        (lambda s: s.search("x", start_s="5"), "must be a finite number. Got '5'."),
        (lambda s: s.search(image=5), "The image must be a file's name or its bytes. Got 5."),
        (lambda s: s.search("x", since=2026), "since must be a time in ISO 8601"),
        (lambda s: s.search("x", video=5), "video must be a list of texts. Got 5."),
        (lambda s: s.search("x", folder=5), "folder must be text. Got 5."),
        (lambda s: s.events(limit=0), "limit must be a whole number from 1. Got 0."),
        (lambda s: s.events(limit="5"), "limit must be a whole number from 1. Got '5'."),
        (lambda s: s.ask("x", k="5"), "k must be a whole number. Got '5'."),
        (lambda s: s.ask("x", options="left"), "options must be a list of texts. Got 'left'."),
        (lambda s: s.ask("x", history=["hello"]), "must be a pair (role, text). Got 'hello'."),
        (lambda s: s.ask("x", history=[("me", "hi")]), "role must be user or assistant"),
        (lambda s: s.ask(7), "text must be text. Got 7."),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_wrong_values_are_named(session: Session, ask: Any, said: str) -> None:
    with pytest.raises(AnswerError) as error:
        ask(session)
    assert said in str(error.value)


def test_replies_show_every_sample(session: Session) -> None:
    reply = session.ask("What happens?", n=2, temperature=1.0, seed=5, max_tokens=4)
    assert isinstance(reply, Reply)
    assert len(reply.texts) == 2
    assert repr(reply).splitlines()[0] == reply.text
    assert "visual tokens instead of" in reply._repr_html_()


def test_a_memory_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MarcError) as error:
        marc_core.open(tmp_path / "nowhere")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.0"), (62.46, "1:02.5"), (59.96, "1:00.0"), (3600, "1:00:00.0"), (-1.5, "-0:01.5")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_html_shows_what_steers_a_page_or_turns_its_order() -> None:
    assert escape("<b>\u202egpj.exe\x1b[31m</b>") == ("&lt;b&gt;\\u202egpj.exe\\x1b[31m&lt;/b&gt;")
    hit = SearchHit(
        event_id="v:0000:00000", video_id="v", part=0, index=0, uri="/a/\u202egpj.exe",
        start_s=0.0, end_s=1.0, text="said \u202e", score=1.0, cosine=1.0,
    )  # fmt: skip
    hits = Results([hit], lambda ids: {})
    assert "\u202e" not in hits._repr_html_() + repr(hits)
    assert hits._repr_html_().count("\\u202e") == repr(hits).count("\\u202e") == 2
