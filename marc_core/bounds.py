"""Bounds of configuration values, declared beside the field that they belong to.

    sample_fps: float = number(1.0, above=0)
    k: int = number(3, least=1)

`check_bounds` reads them for any configuration dataclass and all that it holds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from marc_core.errors import ConfigError

_KEY = "bounds"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """What a number must be: above (exclusive), least and most (inclusive). `why` says what a
    value outside would mean, where the rule alone does not tell."""

    above: float | None = None
    least: float | None = None
    most: float | None = None
    why: str = ""

    def broken_by(self, value: float) -> str | None:
        """Return the rule that `value` breaks, or None."""
        if isinstance(value, float) and not math.isfinite(value):
            return "must be a finite number"
        low = f"above {_text(self.above)}" if self.above is not None else ""
        low = f"at least {_text(self.least)}" if self.least is not None else low
        rule = " and ".join(
            part for part in (low, f"at most {_text(self.most)}" if self.most is not None else "")
            if part
        )  # fmt: skip
        inside = (
            (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
        )
        return None if inside else f"must be {rule}" + (f" ({self.why})" if self.why else "")


def number(
    default: float | tuple[float, ...] | None,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    why: str = "",
) -> Any:
    """Return a dataclass field with this default and these bounds; of a tuple, each number's."""
    bounds = Bounds(above=above, least=least, most=most, why=why)
    return dataclasses.field(default=default, metadata={_KEY: bounds})


def bounds_of(field: dataclasses.Field[Any]) -> Bounds | None:
    """Return the bounds declared for a field, None where it has none."""
    found: Bounds | None = field.metadata.get(_KEY)
    return found


def check_bounds(config: Any, prefix: str = "") -> None:
    """Raise ConfigError for the first number outside its bounds, in `config` and all below it."""
    for name, value, bounds in _numbers(config, prefix):
        broken = bounds.broken_by(value)
        if broken is not None:
            raise ConfigError(f"{name} {broken}. Got {_text(value)}.")


def _numbers(value: Any, prefix: str) -> Iterator[tuple[str, float, Bounds]]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            inner, name = getattr(value, field.name), f"{prefix}{field.name}"
            bounds = bounds_of(field)
            if bounds is not None:
                yield from _bounded(name, inner, bounds)
            else:
                yield from _numbers(inner, f"{name}.")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{prefix}{key}.")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _numbers(inner, f"{prefix}{index}.")


def _bounded(name: str, value: Any, bounds: Bounds) -> Iterator[tuple[str, float, Bounds]]:
    if isinstance(value, list | tuple):
        yield from ((f"{name}.{i}", inner, bounds) for i, inner in enumerate(value))
    elif value is not None:
        yield name, value, bounds


def _text(value: float | None) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
