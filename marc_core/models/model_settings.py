"""What a checkpoint says of how it wants to be used: `marc.json` beside its config.json.

A checkpoint without the file is a general one from the hub; the defaults below are for those. A
student that is trained further keeps the file, so that it behaves alike wherever it lies.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from marc_core.errors import ModelLoadError

SETTINGS_FILE = "marc.json"


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Settings that belong to the weights, not to a run."""

    options_prompt: Literal["letter", "choice"] = "letter"
    """How a question with options is put: `letter` lists them and asks for the letter; `choice`
    asks the question alone and decodes the answer among the options."""
    evaluation_prompt: Literal["direct", "video-r1"] = "video-r1"
    """The prompt of a benchmark: `direct` as `marc ask` puts it, `video-r1` the paper's."""
    threads: int = 0
    """CPU threads that compute it; 0 leaves torch's default. Models of a few million parameters
    want 1: two threads on a busy machine made their tokens up to 60 times slower."""
    max_seconds: float | None = None
    """The longest video, in seconds, that it was trained on; None where nothing is known."""
    event_facts: bool = False
    """Whether its questions are preceded by words on where the events that they name lie in their
    video (`prompt.event_facts`): of students that were trained so."""
    prose: bool = True
    """Whether it can be asked to read texts and write prose of its own (`marc summarize`)."""
    footage: bool = True
    """Whether it was trained on footage; one that was not says nothing about it."""

    @property
    def is_small(self) -> bool:
        """Whether one thread computes it best; then a worker for each CPU fits the memory, too."""
        return self.threads == 1


def model_settings(directory: Path) -> ModelSettings:
    """Return the settings in `directory`, or the defaults where it has no marc.json.

    Raises ModelLoadError for unknown keys and values that the file must not hold.
    """
    path = directory / SETTINGS_FILE
    if not path.is_file():
        return ModelSettings()
    try:
        stored = json.loads(path.read_text())
        settings = ModelSettings(**stored)
    except (ValueError, TypeError) as error:
        raise ModelLoadError(
            f"'{path}' must hold the fields of ModelSettings as one JSON object: {error}."
        ) from error
    wrong = _wrong_field(settings)
    if wrong is not None:
        raise ModelLoadError(f"'{path}': {wrong}")
    return settings


def write_model_settings(settings: ModelSettings, directory: Path) -> None:
    """Write marc.json for a checkpoint that was saved into `directory`."""
    text = json.dumps(dataclasses.asdict(settings), indent=2)
    (directory / SETTINGS_FILE).write_text(text + "\n")


def _wrong_field(settings: ModelSettings) -> str | None:
    allowed: dict[str, tuple[Any, ...]] = {
        "options_prompt": ("letter", "choice"),
        "evaluation_prompt": ("direct", "video-r1"),
    }
    for name, values in allowed.items():
        value = getattr(settings, name)
        if value not in values:
            return f"{name} must be one of {', '.join(values)}. Got {value!r}."
    if type(settings.threads) is not int or settings.threads < 0:
        return f"threads must be a whole number, 0 or more. Got {settings.threads!r}."
    for name in ("event_facts", "prose", "footage"):
        if type(getattr(settings, name)) is not bool:
            return f"{name} must be true or false. Got {getattr(settings, name)!r}."
    longest = settings.max_seconds
    if longest is not None and not (isinstance(longest, int | float) and longest > 0):
        return f"max_seconds must be a number above 0, or null. Got {longest!r}."
    return None
