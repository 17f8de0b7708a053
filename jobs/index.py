"""`marc index`, and `python -m jobs.index` for `ray job submit`: index an archive of videos."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jobs.common import clear_errors, needs_lines, print_json, ray_session
from jobs.estimate import EstimateOption, print_estimate
from jobs.index_report import print_report
from jobs.options import (
    ConfigOption,
    DryRunOption,
    JsonOption,
    MemoryOption,
    memory_override,
    quoted,
    split_arguments,
)
from jobs.prune import YesOption, check_can_ask, remove_vanished
from jobs.terminal import console, say
from marc_core.config import IndexConfig, config_to_yaml, load_config
from marc_core.errors import ConfigError, MarcError
from marc_core.footage import index_line
from marc_core.text.stages import switched_on
from marc_core.video import list_videos

LOG_INTERVAL_S = 15.0


def index(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ARCHIVE]... [KEY=VALUE]...",
            help="Folders, files or bucket prefixes; settings as key=value.",
            show_default=False,
        ),
    ] = None,
    memory: MemoryOption = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", "-p", help="Preset: tiny, footage, qwen2.5-vl-3b.", show_default="tiny"
        ),
    ] = None,
    config: ConfigOption = None,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster to join, or local; default: RAY_ADDRESS, or a local Ray."),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="Redo one thing of indexed videos without a new cut. features: what a student "
            "reads. texts: what is said and written. embeddings: how events are found, by another "
            "encoder; no ARCHIVE needed.",
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Then remove what is gone, as `marc prune` does.")
    ] = False,
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
            sys.stdout.write(config_to_yaml(resolved))
            sys.stdout.write("".join(f"# {line}\n" for line in needs_lines(resolved)))
            if resolved.archive or resolved.only == "embeddings":
                sys.stdout.writelines(f"# {line}\n" for line in plan_lines(resolved))
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


def plan_lines(config: IndexConfig) -> Iterator[str]:
    """Yield what a run with this configuration would do, and why."""
    from pipelines.index import preview

    try:
        if config.only == "embeddings":
            yield from _embeddings_lines(config)
            return
        plan = preview(config)
    except MarcError as error:  # an archive that only the cluster sees, a model not here yet
        yield f"What would be done cannot be told from here: {' '.join(str(error).split())}"
        return
    yield f"{plan.found.num_rows:,} videos found; {plan.work.num_rows:,} would be indexed, "
    yield f"{plan.redo.num_rows:,} would get new features without a new cut."
    if plan.moved:
        yield f"{plan.moved:,} have moved and would keep their events without decoding."
    if plan.texts:
        yield f"{plan.texts:,} have changed files beside them, whose texts would be read again."
    for why, count in sorted(plan.why.items()):
        yield f"{count:>9,} {why}"
    yield from plan.stages
    if plan.work.num_rows and config.only == "all" and switched_on(config.text):
        kinds = ", ".join(switched_on(config.text))
        yield f"Texts of these {plan.work.num_rows:,} videos come once they are indexed: {kinds}"


def _embeddings_lines(config: IndexConfig) -> Iterator[str]:
    from pipelines.embeddings import preview_embeddings

    plan = preview_embeddings(config)
    new = f"encoder {plan.encoder.fingerprint}, {plan.encoder.dim} dimensions"
    if plan.bound:
        yield f"The memory's {plan.events:,} events have embeddings of {new}. Nothing to do."
        return
    old = f"encoder {plan.now.encoder_fingerprint}, {plan.now.embedding_dim} dimensions"
    yield f"{plan.missing:,} of the memory's {plan.events:,} events would get new embeddings "
    yield f"without a new cut, from {plan.work.num_rows:,} videos; "
    yield f"{plan.events - plan.missing:,} have them from an earlier run. Why: {old} -> {new}."
    yield "All are exchanged when none misses; until then searches find by the old ones."


def _run(config: IndexConfig, address: str | None, bar: progress_bar, as_json: bool) -> bool:
    """Run the pipeline, print its report, return whether too many videos failed."""
    from pipelines.index import index_archive

    with ray_session(address), bar as progress:
        report = index_archive(config, progress, lambda line: say(line, "dim"))
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report, config.memory.uri)
        if report.blind:
            say(index_line(config.memory.uri), "yellow")
    if report.embeddings_missing:
        say(
            f"error: {report.embeddings_missing:,} videos have no new embeddings, so the memory "
            "keeps those of its encoder.",
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


class progress_bar:
    """A bar on a terminal, a line now and then elsewhere (job logs)."""

    def __init__(self, doing: str = "indexing", done: str = "indexed") -> None:
        self.done = done
        self.bar = Progress(
            TextColumn(doing),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task, self.logged = self.bar.add_task("", total=None, failed=0), time.monotonic()
        self.done_and_total = (0, 0)

    def __enter__(self):
        self.bar.start()
        return self.update

    def __exit__(self, *_):
        self.bar.stop()

    def how_far(self) -> str:
        """Return what to say when the user stops the command."""
        counts = "{:,} of {:,} videos were done".format(*self.done_and_total)
        return f"{counts} and stay in the memory. The same command goes on with the rest."

    def update(self, done: int, failed: int, total: int) -> None:
        self.done_and_total = (done, total)
        self.bar.update(self.task, completed=done, total=total, failed=failed)
        if not console.is_terminal and time.monotonic() - self.logged > LOG_INTERVAL_S:
            console.print(f"{self.done} {done} of {total} videos, {failed} failed")
            self.logged = time.monotonic()


def main() -> None:
    """Run `index` as a program of its own."""
    with clear_errors():
        typer.run(index)


if __name__ == "__main__":
    main()
