"""The Grafana dashboard asks for metrics, labels and values that a server really gives."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from serving.metrics import Metrics

FILE = Path(__file__).resolve().parents[2] / "serving" / "grafana.json"
DASHBOARD = json.loads(FILE.read_text())
VARIABLES = {"$__rate_interval": "5m"}
ASK: Any = {"model": "marc", "messages": [{"role": "user", "content": "What colour is it?"}]}
Values = dict[str, dict[str, set[str]]]
"""Label values by metric and label."""


def queries() -> list[str]:
    found = [t["expr"] for panel in DASHBOARD["panels"] for t in panel["targets"]]
    for name, value in VARIABLES.items():
        found = [query.replace(name, value) for query in found]
    return found


def selectors(query: Any, labels: tuple[str, ...] = ()) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Yield what a query selects, with the labels that it is grouped by."""
    if isinstance(query, promql.VectorSelector):
        yield query, labels
    elif isinstance(query, promql.MatrixSelector):
        yield query.vector_selector, labels
    elif isinstance(query, promql.AggregateExpr):
        by = query.modifier.labels if query.modifier is not None else []
        yield from selectors(query.expr, (*labels, *by))
    elif isinstance(query, promql.Call):
        for argument in query.args:
            yield from selectors(argument, labels)
    elif isinstance(query, promql.BinaryExpr):
        yield from selectors(query.lhs, labels)
        yield from selectors(query.rhs, labels)
    else:
        assert isinstance(query, promql.NumberLiteral), query


def exported(text: str) -> Values:
    found: Values = defaultdict(lambda: defaultdict(set))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            own = found[sample.name]
            for label, value in sample.labels.items():
                own[label].add(value)
    return found


def check(prefix: str, values: Values) -> int:
    """Check every selector of these metrics; return how many there are."""
    count = 0
    for query in queries():
        for selector, labels in selectors(promql.parse(query)):
            if not selector.name.startswith(prefix):
                continue
            count += 1
            assert selector.name in values, f"{selector.name} of {query} is not exported"
            own = values[selector.name]
            assert set(labels) <= set(own), f"{query}: {labels} are not of {sorted(own)}"
            for matcher in selector.matchers.matchers:
                is_plain = matcher.op == promql.MatchOp.Equal
                assert is_plain or matcher.op == promql.MatchOp.Re
                pattern = re.escape(matcher.value) if is_plain else matcher.value
                fits = [value for value in own[matcher.name] if re.fullmatch(pattern, value)]
                assert fits, f"{query}: nothing fits {matcher.value}"
    return count


def test_every_query_can_be_parsed_and_asks_one_of_the_two_exporters() -> None:
    names = {s.name for q in queries() for s, _ in selectors(promql.parse(q))}
    assert {re.match(r"marc_|ray_serve_", name) is not None for name in names} == {True}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in DASHBOARD["panels"]:
        assert panel["description"]
        shown = {
            label for t in panel["targets"] for label in re.findall(r"{{(\w+)}}", t["legendFormat"])
        }
        grouped = {
            label
            for t in panel["targets"]
            for _, labels in selectors(promql.parse(t["expr"].replace("$__rate_interval", "5m")))
            for label in labels
        }
        assert shown <= grouped


def test_every_metric_of_the_gateway_is_exported(client: TestClient) -> None:
    client.post("/v1/chat/completions", json=ASK)
    client.post("/v1/chat/completions", json=ASK | {"model": "other"})
    gateway: Any = client.app.state.gateway  # type: ignore[attr-defined]
    gateway.metrics.rejected("overloaded")
    gateway.metrics.retried("student")
    assert check("marc_", exported(client.get("/metrics").text)) > 15


def test_several_gateways_are_told_apart() -> None:
    metrics = Metrics("abc")
    metrics.request("/health", "GET", 200, 0.1)
    values = exported(metrics.text().decode())
    assert values["marc_requests_total"]["replica"] == {"abc"}
    assert values["marc_request_seconds_bucket"]["replica"] == {"abc"}


def test_it_fails_for_what_is_not_exported(client: TestClient) -> None:
    values = exported(client.get("/metrics").text)
    del values["marc_under_way"]
    with pytest.raises(AssertionError, match="marc_under_way"):
        check("marc_under_way", values)
