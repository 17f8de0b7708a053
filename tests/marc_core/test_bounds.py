"""Bounds beside fields: every number in and below a configuration is checked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pytest

from marc_core.bounds import check_bounds, number
from marc_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner:
    share: float = number(0.5, above=0, most=1)
    rate: float | None = number(1.0, above=0)


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int = number(1, least=1)
    inner: Inner = field(default_factory=Inner)
    named: dict[str, Inner] = field(default_factory=dict)
    stages: tuple[Inner, ...] = ()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Outer(steps=0), "steps must be at least 1. Got 0."),
        (Outer(inner=Inner(share=0.0)), "inner.share must be above 0 and at most 1. Got 0.0."),
        (Outer(inner=Inner(share=1.5)), "inner.share must be above 0 and at most 1. Got 1.5."),
        (Outer(named={"a": Inner(share=2.0)}), "named.a.share must be"),
        (Outer(stages=(Inner(), Inner(rate=-1.0))), "stages.1.rate must be above 0. Got -1.0."),
        (Outer(inner=Inner(share=float("nan"))), "inner.share must be a finite number. Got nan."),
    ],
)
def test_a_number_outside_its_bounds_is_named(config, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        check_bounds(config)


def test_numbers_inside_and_none_pass():
    check_bounds(dataclasses.replace(Outer(steps=1), inner=Inner(share=1.0, rate=None)))
