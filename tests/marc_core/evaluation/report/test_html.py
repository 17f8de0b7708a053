"""Results, manifest, comparison and report, from predictions made by hand."""

from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from marc_core.config import load_config
from marc_core.evaluation.config import EvaluateConfig, VariantConfig
from marc_core.evaluation.report.html import render_report
from marc_core.evaluation.report.markdown import render_markdown
from marc_core.evaluation.results.compare import changed, compare_results
from marc_core.evaluation.results.manifest import make_manifest, run_fingerprint, settings
from marc_core.evaluation.results.prediction import FAILED, MISSING, answered, unanswered
from marc_core.evaluation.results.result import ResultError, load_result, make_result, step_table

ARMS = {"teacher": VariantConfig(events="all", mode="none"), "marc": VariantConfig()}


def run(make_sample: Any, right: dict[str, set[int]], num: int = 20, **settings: Any) -> Any:
    """A result of `num` questions about five videos; `right` names each variant's right answers."""
    config = EvaluateConfig(variants=ARMS, resamples=200, **settings)
    samples = [make_sample(str(i), task=f"t{i % 2}", path=f"{i % 5}.mp4") for i in range(num)]
    predictions = [
        answered(s, variant, "B" if i in ids else "A", visual_tokens=9, visual_tokens_before=90,
                 prompt_tokens=50, generated_tokens=2, evidence_rank=1 + i % 4,
                 recall_by_chance={"1": 0.25, "3": 0.5},
                 timings_s={"decode": 0.1, "generate": 0.2}, alone_s={"prefill": 0.1})
        for variant, ids in right.items() for i, s in enumerate(samples)
    ]  # fmt: skip
    manifest = make_manifest(
        config, samples, data_hash="d", student_fingerprint="s", encoder_fingerprint="e"
    )
    return make_result(config, manifest, predictions, 1.0)


@pytest.fixture
def result(make_sample: Any) -> Any:
    return run(make_sample, {"teacher": set(range(18)), "marc": set(range(12))})


def test_result_has_every_table(result: Any) -> None:
    marc = result["variants"]["marc"]
    assert marc["scores"]["official"]["overall"]["mean"] == 0.6
    assert marc["scores"]["official"]["tasks"]["t0"]["num"] == 10
    assert marc["scores"]["official"]["tags"]["static"]["num"] == 20
    assert marc["tokens"]["visual_tokens"] == 9
    assert marc["retrieval"]["recall_at_1"] == 0.25
    assert marc["retrieval"]["recall_at_3"] == 0.75
    assert marc["retrieval"]["chance_at_3"] == 0.5
    assert marc["seconds"]["generate"]["p95"] == pytest.approx(0.2)
    assert json.loads(json.dumps(result)) == result


def test_unanswered_questions_are_counted_and_shown(make_sample: Any) -> None:
    config = EvaluateConfig(variants={"marc": VariantConfig()}, resamples=50)
    samples = [make_sample(str(i)) for i in range(3)]
    predictions = [answered(samples[0], "marc", "B"),
                unanswered(samples[1], "marc", MISSING, "No file at 'x'."),
                unanswered(samples[2], "marc", FAILED, "timeout: too slow")]  # fmt: skip
    manifest = make_manifest(
        config, samples, data_hash="d", student_fingerprint="s", encoder_fingerprint=None
    )
    result = make_result(config, manifest, predictions, 0.0)
    marc = result["variants"]["marc"]
    assert (marc["answered"], marc["missing"], marc["failed"]) == (1, 1, {"timeout": 1})
    assert marc["scores"]["official"]["overall"]["num"] == 1
    assert "2 of\n3 questions have no answer" in render_report(result)


def test_nothing_answered_still_gives_a_report(make_sample: Any) -> None:
    config = EvaluateConfig(variants={"marc": VariantConfig()})
    sample = make_sample()
    manifest = make_manifest(
        config, [sample], data_hash="d", student_fingerprint="s", encoder_fingerprint=None
    )
    result = make_result(config, manifest, [unanswered(sample, "marc", MISSING, "gone")], 0.0)
    assert "1 of\n1 questions" in render_report(result)


class Page(HTMLParser):
    """Collects what a page would load, and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "link", "img", "path", "use", "rect"):
            self.open.append(tag)
        assert tag != "script"
        self.loads += [v or "" for k, v in attrs if k in ("src", "href") and tag != "use"]

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_report_is_one_page_without_network(result: Any) -> None:
    html = render_report(result)
    page = Page()
    page.feed(html)
    assert page.loads == []
    assert page.open == []
    assert html.count("<svg role") == 3
    assert "@import" not in html
    assert "url(http" not in html
    assert "90.0" in html
    assert render_report(result) == html


def test_markdown_has_every_variant_and_task(result: Any) -> None:
    text = render_markdown(result)
    assert "| marc | 60.0 (" in text
    assert "| t0 | 10 | 90.0 | 60.0 |" in text
    assert "| *static* | 20 | 90.0 | 60.0 |" in text
    widths = [line.count("|") for line in text.split("\n\n")[0].splitlines()]
    assert len(set(widths)) == 1


def test_answers_are_escaped(make_sample: Any) -> None:
    result = run(make_sample, {"teacher": {0}, "marc": set()}, num=2)
    for row in result["rows"]:
        row["text"] = "<script>alert(1)</script>"
    assert "<script>" not in render_report(result)


def test_comparison_finds_the_difference(make_sample: Any) -> None:
    a = run(make_sample, {"marc": set(range(8))})
    b = run(make_sample, {"marc": set(range(4, 20))}, seed=3)
    found = compare_results(a, b)
    (pair,) = found["variants"]
    assert pair["overall"]["difference"] == pytest.approx(0.4)
    assert (pair["overall"]["only_a"], pair["overall"]["only_b"]) == (4, 12)
    assert pair["tasks"]["t0"]["num"] == 10
    assert len(pair["flips"]) == 16
    assert found["changed"]["seed"] == [0, 3]
    assert "finished_at" not in found["changed"]


def test_two_variants_of_one_result(result: Any) -> None:
    found = compare_results(result, result, variant_a="teacher", variant_b="marc")
    (pair,) = found["variants"]
    assert (pair["a"], pair["b"]) == ("teacher", "marc")
    assert pair["overall"]["difference"] == pytest.approx(-0.3)


def test_different_questions_are_refused(result: Any) -> None:
    other = json.loads(json.dumps(result))
    other["manifest"]["data_hash"] = "x"
    with pytest.raises(ResultError, match="data_hash: d / x"):
        compare_results(result, other)
    with pytest.raises(
        ResultError, match=r"second result has the variants teacher, marc\. Got 'none'"
    ):
        compare_results(result, result, variant_a="marc", variant_b="none")


def test_loading_results(tmp_path: Path, result: Any) -> None:
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert load_result(tmp_path) == result
    (tmp_path / "old.json").write_text('{"format": 0}')
    with pytest.raises(ResultError, match="format 2"):
        load_result(tmp_path / "old.json")
    with pytest.raises(ResultError, match="cannot be read"):
        load_result(tmp_path / "none.json")


def test_changed_values_are_named() -> None:
    assert changed({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "d": 4}) == {
        "a.b": [1, 3], "c": [2, None], "d": [None, 4],
    }  # fmt: skip


def test_step_table_of_nothing_and_of_missing_steps() -> None:
    assert step_table([]) == {}
    assert step_table([{"a": 1.0}, {"a": 3.0, "b": 2.0}])["b"] == {"mean": 2, "p50": 2, "p95": 2}


def test_run_fingerprint_ignores_what_changes_no_answer() -> None:
    base = EvaluateConfig()
    same = dataclasses.replace(
        base, output="x", workers=3, only_variants=("marc",), scoring="video-r1"
    )
    other = dataclasses.replace(base, world=dataclasses.replace(base.world, noise=0))
    assert run_fingerprint(base, "d", "s", "e") == run_fingerprint(same, "d", "s", "e")
    assert run_fingerprint(base, "d", "s", "e") != run_fingerprint(other, "d", "s", "e")
    assert run_fingerprint(base, "d", "s", "e") != run_fingerprint(base, "d", "t", "e")


def test_manifest_holds_no_credentials() -> None:
    config = load_config(
        EvaluateConfig, overrides=["memory.storage_options={secret_access_key: hunter2}"]
    )
    assert "hunter2" not in json.dumps(settings(config))
