"""Which text stages a configuration switches on, and how each is made.

    TextConfig --switched_on--> kind: auto | on --make_stage--> TextStage

A stage's module holds `make_stage(config) -> TextStage`, which reads the names and digests of its
model files and loads no model: the driver asks for a fingerprint, workers for texts. Its packages
come with an extra; where they are missing, `on` is an error, and `auto` leaves the stage out and
says so.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Literal, cast

from marc_core.config import MethodConfig, TextConfig
from marc_core.errors import ConfigError
from marc_core.schemas import TextKind
from marc_core.text.stage import TextStage
from marc_core.times import counted


@dataclass(frozen=True, kw_only=True, slots=True)
class StageKind:
    """How a kind of stage is found, and what it costs.

    setting: its field in `text`. module: where its `make_stage` is. extra: of the packages that it
    needs, empty where it needs none. seconds_an_hour, seconds_an_event: CPU seconds on one core
    for an hour of media and for an event, to say before a run what it will take (speech: measured
    325 - 420 an hour of speech; writing: two pictures of 110 ms and their decoding, rounded up);
    None: as the model costs.
    """

    setting: str
    module: str
    extra: str
    seconds_an_hour: float | None
    seconds_an_event: float = 0.0


STAGES: Mapping[TextKind, StageKind] = {
    "speech": StageKind(
        setting="speech", module="marc_core.text.speech", extra="speech", seconds_an_hour=400.0
    ),
    "writing": StageKind(
        setting="writing",
        module="marc_core.text.writing",
        extra="ocr",
        seconds_an_hour=0.0,
        seconds_an_event=0.3,
    ),
    "caption": StageKind(
        setting="captions", module="marc_core.text.captioning", extra="", seconds_an_hour=None
    ),
}


class MissingExtraError(ConfigError):
    """The packages of a stage are not installed."""


def switched_on(config: TextConfig) -> dict[TextKind, Literal["auto", "on"]]:
    """Return the kinds that are made, and whether of all videos or (auto) of footage alone."""
    modes = {kind: getattr(config, stage.setting) for kind, stage in STAGES.items()}
    return {kind: mode for kind, mode in modes.items() if mode != "off"}


def make_stage(kind: TextKind, config: MethodConfig) -> TextStage:
    """Return the stage; its models are loaded when it is first asked for texts.

    Raises MissingExtraError where its packages are not installed, ModelLoadError for a model that
    cannot be found.
    """
    stage = STAGES[kind]
    try:
        module = importlib.import_module(stage.module)
        return cast(TextStage, module.make_stage(config))
    except ImportError as error:
        install = f" Install it: pip install 'marc-video[{stage.extra}]'." if stage.extra else ""
        raise MissingExtraError(
            f"text.{stage.setting} needs a package that is not installed ({error}).{install} "
            f"text.{stage.setting}=off does without."
        ) from error


def check_stages(config: MethodConfig) -> None:
    """Raise ConfigError or ModelLoadError for a stage that is asked for and cannot be made."""
    for kind, mode in switched_on(config.text).items():
        if mode == "on":
            make_stage(kind, config).close()


def stage_names(
    kinds: Mapping[TextKind, Literal["auto", "on"]], config: MethodConfig
) -> tuple[dict[TextKind, str], list[str]]:
    """Return the fingerprints of these kinds' stages, and a line for each that is left out, why.

    Raises like `make_stage` for kinds that are on.
    """
    names, left_out = {}, []
    for kind, mode in kinds.items():
        try:
            with closing(make_stage(kind, config)) as stage:
                names[kind] = stage.fingerprint
        except MissingExtraError as error:
            if mode == "on":
                raise
            left_out.append(f"No texts of kind {kind}: {error}")
    return names, left_out


def cost_lines(
    videos: Mapping[TextKind, int], hours: Mapping[TextKind, float], events: Mapping[TextKind, int]
) -> Iterator[str]:
    """Yield what the stages will look at and take, a line a kind."""
    for kind, count in videos.items():
        stage = STAGES[kind]
        line = f"{kind}: {_length(hours[kind])} of media in {counted(count, 'video')}"
        if stage.seconds_an_hour is None:
            yield f"{line}, {counted(events[kind], 'event')}; what that takes depends on the model"
            continue
        seconds = stage.seconds_an_hour * hours[kind] + stage.seconds_an_event * events[kind]
        yield f"{line}, about {_length(seconds / 3600)} of one CPU core (text.{stage.setting}=off)"


def _length(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:,.1f} min"
