"""`marc gc`: takes away what a deployment's limits of time and bytes no longer keep."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.common import clear_errors, print_json
from jobs.options import ConfigOption, JsonOption, MemoryOption, setting
from jobs.prune import YesOption, check_can_ask
from jobs.serve import UPLOADS
from jobs.terminal import counted, say
from jobs.upkeep import PURGES

if TYPE_CHECKING:
    from serving.retention import Plan

_SHOWN = 20


def gc(
    settings: Annotated[list[str] | None, setting("retention.memory_days=90")] = None,
    memory: MemoryOption = None,
    uploads: Annotated[
        str | None, typer.Option(help="Folder of uploads.", show_default=UPLOADS)
    ] = None,
    config: ConfigOption = None,
    yes: YesOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Take the bytes of deleted rows off the disk now.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take away what is too old or too much: videos with their events, texts, features, pictures,
    uploaded files and copies. Registered files stay. Shows it first.

    The limits are `marc serve`'s: retention.memory_days, memory_bytes, uploads_days, uploads_bytes.

    Example: marc gc --memory runs/memory retention.memory_days=90 --dry-run
    """
    with clear_errors():
        from marc_core.memory import MemoryStore
        from marc_core.memory.gc import GcPolicy
        from serving.config import load_serve_config, method_of
        from serving.retention import carry_out, make_plan
        from serving.uploads import Uploads

        given: dict[str, Any] = {"uploads": {"folder": uploads or UPLOADS}}
        if memory is not None:
            given["memory"] = memory
        resolved = load_serve_config(given, files=config or (), overrides=settings or ())
        store = MemoryStore.open(method_of(resolved).memory)
        own = Uploads(resolved.uploads) if Path(resolved.uploads.folder).is_dir() else None
        plan = make_plan(store, own, resolved, dt.datetime.now(dt.UTC))
        _show(plan)
        answer: dict[str, Any] = {"leaving": [dataclasses.asdict(one) for one in plan.leaving]}
        answer |= {"unfinished": [str(folder) for folder in plan.unfinished], "deleted": {}}
        anything = bool(plan.leaving or plan.unfinished)
        if anything and not dry_run and _may(yes):
            answer["deleted"] = carry_out(plan, store, own, resolved)
            counts = ", ".join(f"{n:,} {name}" for name, n in answer["deleted"].items())
            say(f"Removed {counts}.")
            if purge:
                say(PURGES)
                store.gc(GcPolicy(purge=True))
        if as_json:
            print_json(answer)


def _show(plan: Plan) -> None:
    if not plan.leaving and not plan.unfinished:
        say("Nothing has to go.")
        return
    total = sum(one.size_bytes for one in plan.leaving)
    say(f"To go, of videos and uploads: {len(plan.leaving):,} with {counted(total, 'byte')}:")
    for one in plan.leaving[:_SHOWN]:
        file = ", its file too" if one.file is not None else ""
        say(f"  {one.uri} ({one.why}{file})")
    if len(plan.leaving) > _SHOWN:
        say(f"  and {len(plan.leaving) - _SHOWN:,} more (--json lists all)")
    if plan.unfinished:
        say(f"Broken off: {counted(len(plan.unfinished), 'upload')}.")


def _may(yes: bool) -> bool:
    if yes:
        return True
    check_can_ask()
    if typer.confirm("Remove them?", err=True):
        return True
    say("Nothing was removed.")
    return False
