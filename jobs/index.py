"""`marc index`, and `python -m jobs.index` for `ray job submit`: index an archive of videos."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from jobs.common import clear_errors, needs_lines, print_json, ray_session
from jobs.estimate import EstimateOption, print_estimate
from jobs.index_report import print_report
from jobs.options import (
    AddressOption,
    ConfigOption,
    DryRunOption,
    JsonOption,
    MemoryOption,
    memory_override,
    quoted,
    split_arguments,
)
from jobs.places import absolute
from jobs.progress import progress_bar
from jobs.prune import YesOption, check_can_ask, remove_vanished
from jobs.terminal import counted, say
from marc_core.config import IndexConfig, config_to_yaml, load_config
from marc_core.errors import ConfigError, MarcError, SourceError
from marc_core.filenames import looks_like_video
from marc_core.footage import index_line
from marc_core.text.stages import switched_on
from marc_core.video import list_videos

ArchiveArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ARCHIVE]... [KEY=VALUE]...",
        help="Folders, files or bucket prefixes; settings as key=value.",
        show_default=False,
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset", "-p", help="Preset: tiny, footage, qwen2.5-vl-3b.", show_default="tiny"
    ),
]
OnlyOption = Annotated[
    str | None,
    typer.Option(
        help="Redo one thing of indexed videos without a new cut. features: what a student "
        "reads. texts: what is said and written. embeddings: how events are found, by another "
        "encoder; no ARCHIVE needed.",
    ),
]
PruneOption = Annotated[
    bool, typer.Option("--prune", help="Then remove what is gone, as `marc prune` does.")
]


def index(
    arguments: ArchiveArgument = None,
    memory: MemoryOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    address: AddressOption = None,
    only: OnlyOption = None,
    prune: PruneOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    estimate: EstimateOption = False,
) -> None:
    """Decode videos, cut them into events and store them in a memory.

    A rerun does only what is missing or changed: moved files keep their events, new captions
    are read without decoding. Bad files become rows with a reason (`marc status --failures`
    lists them). The exit code is 1 when more than
    max_failed_fraction of the archive's videos are not indexed, or embeddings could not be redone.

    Example: marc index ~/videos --memory runs/memory events.max_event_s=30
    """
    bar = progress_bar()
    from marc_core.memory import MemoryStore

    with clear_errors(bar.how_far):
        resolved = _resolve(arguments or [], memory, preset, config or [], only)
        if dry_run:
            lines = [*dry_lines(resolved)]  # what is wrong is said before anything else
            sys.stdout.write(config_to_yaml(resolved))
            sys.stdout.writelines(f"# {line}\n" for line in lines)
            return
        if not resolved.archive and (prune or resolved.only != "embeddings"):
            raise ConfigError("No archive given. Name a folder: marc index ~/videos")
        if prune and not yes:
            check_can_ask()
        # Says what is wrong with the addresses before Ray takes its time to start.
        list_videos(resolved.archive, resolved.patterns, resolved.archive_options)
        if estimate:  # of what would be indexed
            print_estimate(resolved, address, as_json=as_json)
            return
        failed = _run(resolved, address, bar, as_json)
        if prune:
            remove_vanished(MemoryStore.open(resolved.memory), resolved, yes=yes)
    if failed:
        raise typer.Exit(1)


def _resolve(
    arguments: list[str],
    memory: str | None,
    preset: str | None,
    files: list[Path],
    only: str | None = None,
) -> IndexConfig:
    archive, overrides = split_arguments(arguments)
    named = [f"archive=[{', '.join(quoted(a) for a in archive)}]"] if archive else []
    chosen = [f"only={only}"] if only else []
    overrides = [*named, *memory_override(memory), *chosen, *overrides]
    resolved = load_config(IndexConfig, preset=preset or "tiny", files=files, overrides=overrides)
    if resolved.only != "embeddings":
        return resolved
    return _of_memory(resolved, preset, files, overrides)


def _of_memory(
    given: IndexConfig, preset: str | None, files: list[Path], overrides: list[str]
) -> IndexConfig:
    """Return the configuration of the memory's last run, with the encoder that was given.

    All else was not redone, so it stays as it was. A preset gives its encoder alone.
    """
    from marc_core.memory import MemoryStore

    stored = MemoryStore.open(given.memory).last_config()
    if stored is None:
        return given
    config = load_config(IndexConfig, stored=stored, files=files, overrides=overrides)
    encoder = config.encoder if preset is None else given.encoder
    return replace(config, encoder=encoder, memory=replace(config.memory, uri=given.memory.uri))


def dry_lines(config: IndexConfig) -> Iterator[str]:
    """Yield what `--dry-run` says below the settings: what models need, what would be done.

    Raises SourceError for an archive that is not there.
    """
    yield from needs_lines(config)
    if config.archive or config.only == "embeddings":
        yield from plan_lines(config)


def plan_lines(config: IndexConfig) -> Iterator[str]:
    """Yield what a run with this configuration would do, and why. Raises SourceError."""
    from pipelines.index import preview

    try:
        if config.only == "embeddings":
            yield from _embeddings_lines(config)
            return
        plan = preview(config)
    except SourceError:
        raise
    except MarcError as error:  # a model that is not here yet
        yield f"What would be done cannot be told from here: {' '.join(str(error).split())}"
        return
    found, work, redo = (rows.num_rows for rows in (plan.found, plan.work, plan.redo))
    yield f"{counted(found, 'video')} found; {work or 'none'} would be indexed."
    for path in config.archive:
        if os.path.isfile(path) and not looks_like_video(path):
            yield f"'{path}' does not look like a video, but is named itself and would be tried."
    if redo:
        yield f"{counted(redo, 'video')} would get new features without a new cut."
    if plan.moved:
        yield f"{counted(plan.moved, 'video')} moved and would keep the events without decoding."
    if plan.texts:
        yield (
            f"{counted(plan.texts, 'video')} with changed files beside, or clocks by other "
            "settings: those would be read anew."
        )
    for why, count in sorted(plan.why.items()):
        yield f"{count:>9,} {why}"
    yield from plan.stages
    if plan.work.num_rows and config.only == "all" and switched_on(config.text):
        kinds = ", ".join(switched_on(config.text))
        yield f"Texts of {counted(plan.work.num_rows, 'video')} come once indexed: {kinds}"


def _embeddings_lines(config: IndexConfig) -> Iterator[str]:
    from pipelines.embeddings import preview_embeddings

    plan = preview_embeddings(config)
    new = f"encoder {plan.encoder.fingerprint}, {plan.encoder.dim} dimensions"
    if plan.bound:
        yield f"All have embeddings of {new}: {counted(plan.events, 'event')}. Nothing to do."
        return
    old = f"encoder {plan.now.encoder_fingerprint}, {plan.now.embedding_dim} dimensions"
    videos = counted(plan.work.num_rows, "video")
    events = counted(plan.events, "event")
    yield f"{plan.missing:,} of the memory's {events} would get new embeddings."
    yield f"They are of {videos}, which would get no new cut. Why: {old} -> {new}."
    if plan.missing < plan.events:
        yield f"{plan.events - plan.missing:,} have them from an earlier run."
    yield "All are exchanged when none misses; until then searches find by the old ones."


def _run(config: IndexConfig, address: str | None, bar: progress_bar, as_json: bool) -> bool:
    """Run the pipeline, print its report, return whether too many videos failed.

    Workers of a Ray that somebody else has started have other working directories, so they are
    told the memory's whole path.
    """
    from pipelines.index import index_archive

    placed = replace(config, memory=replace(config.memory, uri=absolute(config.memory.uri)))
    with ray_session(address), bar as progress:
        report = index_archive(placed, progress, lambda line: say(line, "dim"), bar.update_texts)
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report, config.memory.uri)
        if report.blind:
            say(index_line(config.memory.uri), "yellow")
    if report.embeddings_missing:
        say(
            f"error: {counted(report.embeddings_missing, 'video')} without new embeddings, so the "
            "memory keeps those of its encoder.",
            "bold red",
        )
        return True
    too_many = report.failed_fraction > config.max_failed_fraction
    if too_many:
        say(
            f"error: {report.failed_fraction:.0%} of the archive's videos are not indexed, more "
            f"than max_failed_fraction={config.max_failed_fraction:g}.",
            "bold red",
        )
    return too_many


def main() -> None:
    """Run `index` as a program of its own."""
    with clear_errors():
        typer.run(index)


if __name__ == "__main__":
    main()
