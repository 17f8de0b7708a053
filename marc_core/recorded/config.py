"""The section `clock` of every configuration: whose clock people mean."""

from __future__ import annotations

from dataclasses import dataclass

from marc_core.recorded.zones import zone_of


@dataclass(frozen=True, kw_only=True)
class ClockConfig:
    """The wall clock of questions."""

    zone: str = ""
    """Where times of questions that name no zone are meant: `Europe/Berlin`, `UTC` or `+01:00`;
    empty refuses such times (our choice: never guessed)."""

    def __post_init__(self) -> None:
        """Raise ConfigError for an unknown zone."""
        zone_of(self.zone)
