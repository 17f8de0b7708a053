"""schemathesis over the OpenAPI document of an application, in this process: every operation, with
data that fits the document and data that does not, one by one and in chains, all checks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from fastapi import FastAPI
from schemathesis.config import (
    ChecksConfig,
    CoveragePhaseConfig,
    ExamplesPhaseConfig,
    FuzzingPhaseConfig,
    GenerationConfig,
    OutputConfig,
    PhasesConfig,
    ProjectConfig,
    ProjectsConfig,
    SanitizationConfig,
    SchemathesisConfig,
    StatefulPhaseConfig,
)
from schemathesis.core.failures import Failure
from schemathesis.engine import Status, events, from_schema

SEED = 20261126
UNKNOWABLE = {
    "unanswerable": "the memory decides: no event passes the filter, k is above the deployment's, "
    "bytes are no picture, a text is only white space of some script",
    "invalid_value:messages": "JSON Schema has no word for a list's last item, the user's question",
    "invalid_value:image": "JSON Schema checks no base64",
    "unsupported_type:name": "the list of endings that videos have is longer than a schema",
    "root_not_allowed:uri": "the deployment's roots are nobody's business",
}
"""Refusals of requests that fit the schema, and why no schema can say so: `code` or `code:param`.
The check `positive_data_acceptance` passes these answers, and no other of 4xx but those that it
knows itself (401, 403, 404, 409)."""


@dataclass
class Found:
    """What came of a run. statuses: of answers, by operation."""

    cases: int = 0
    checks: Counter[str] = field(default_factory=Counter)
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    passed_over: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def take(self, event: Any) -> None:
        """Count what an event of the engine holds."""
        if isinstance(event, events.NonFatalError):
            self.failures.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.ScenarioFinished):
            self._take_cases(event.recorder)

    def _take_cases(self, recorder: Any) -> None:
        self.cases += len(recorder.cases)
        for key, node in recorder.cases.items():
            response = recorder.interactions[key].response if key in recorder.interactions else None
            counts = self.statuses.setdefault(node.value.operation.label, Counter())
            counts[0 if response is None else response.status_code] += 1
        for nodes in recorder.checks.values():
            for node in nodes:
                self.checks[node.name] += 1
                if node.status is Status.FAILURE:
                    self.failures.append(f"{recorder.label}: {_shown(node.failure_info)}")


def _shown(info: Any) -> str:
    return f"{info.failure.title}: {info.failure.message}\n{info.code_sample[:1000]}"


def fuzz(
    app: FastAPI, token: str, *, examples: int, edges: bool, chains: bool, without: str = ""
) -> Found:
    """Try an application with a key of every scope.

    examples: by chance, of each operation. edges: every boundary of every schema, too. chains:
    calls that take what others gave. without: a method that is left out.
    """
    found = Found()
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=_config(token, examples))
    schema.config.phases.coverage.enabled = edges
    schema.config.phases.stateful.enabled = chains

    @schema.hook
    def filter_failure(_: Any, failure: Failure, __: Any, response: Any) -> bool:
        if type(failure).__name__ != "RejectedPositiveData":
            return True
        error = response.json()["error"]
        for name in (error["code"], f"{error['code']}:{error['param']}"):
            if name in UNKNOWABLE:
                found.passed_over[name] += 1
                return False
        return True

    if without:
        schema = schema.exclude(method=without)
    for event in from_schema(schema).execute():
        found.take(event)
    return found


def _config(token: str, examples: int) -> SchemathesisConfig:
    def generation() -> GenerationConfig:
        return GenerationConfig(max_examples=examples, deterministic=True, database="none")

    phases = PhasesConfig(
        examples=ExamplesPhaseConfig(generation=generation()),
        coverage=CoveragePhaseConfig(generation=generation()),
        fuzzing=FuzzingPhaseConfig(generation=generation()),
        stateful=StatefulPhaseConfig(generation=generation()),
    )
    project = ProjectConfig(
        headers={"Authorization": f"Bearer {token}"},
        phases=phases,
        checks=ChecksConfig(),
        generation=generation(),
    )
    shown = OutputConfig(sanitization=SanitizationConfig(enabled=False))
    return SchemathesisConfig(seed=SEED, output=shown, projects=ProjectsConfig(default=project))
