"""`marc keys create|list|revoke`: the API keys of `marc serve`."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from jobs.common import clear_errors, print_json
from jobs.options import JsonOption
from jobs.terminal import out, plain, say
from marc_core.errors import ConfigError

app = typer.Typer(
    name="keys",
    help="API keys of `marc serve`.\n\nExample: marc keys create alice --days 90",
    no_args_is_help=True,
)

KeysOption = Annotated[Path, typer.Option("--keys", help="The file of keys.")]
DEFAULT = Path("runs/keys.json")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    keys: KeysOption = DEFAULT,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="read, ask, ingest or admin.", show_default="read, ask"),
    ] = None,
    days: Annotated[float | None, typer.Option(help="Good for so many days.")] = None,
    camera: Annotated[str | None, typer.Option(help="Sees this camera only.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Sees what has this tag only.")] = None,
    folder: Annotated[str | None, typer.Option(help="Sees this folder only.")] = None,
    per_minute: Annotated[
        int | None, typer.Option(min=0, help="Requests a minute; 0: no limit.")
    ] = None,
    at_once: Annotated[
        int | None, typer.Option(min=0, help="Requests at once; 0: no limit.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is printed once and kept nowhere: the file holds its digest.

    Example: marc keys create alice --scope read --scope ask --days 90 --camera "gate 3"
    """
    from marc_core.question import EventFilter
    from serving.access import SCOPES
    from serving.keys import KeyFile, new_key

    with clear_errors():
        scopes = tuple(scope or ("read", "ask"))
        for given in scopes:
            if given not in SCOPES:
                raise ConfigError(f"A scope is one of {', '.join(SCOPES)}. Got '{given}'.")
        if days is not None and not 0 < days < 36_500:
            raise ConfigError(f"--days must be above 0 and below 36,500. Got {days}.")
        now = dt.datetime.now(dt.UTC)
        key, token = new_key(
            name,
            scopes,  # type: ignore[arg-type]
            bound=EventFilter(camera=camera, tags=tuple(tag or ()), folder=folder),
            expires_at=None if days is None else now + dt.timedelta(days=days),
            requests_per_minute=per_minute,
            concurrent_requests=at_once,
        )
        KeyFile(keys).change(lambda every: every.update({key.id: key}))
    if as_json:
        print_json({"id": key.id, "name": name, "key": token})
    else:
        out.print(token, markup=False, highlight=False, soft_wrap=True)
        say(f"Key {key.id} of {name}: {', '.join(scopes)}. It is shown this once.")


@app.command("list")
def list_keys(keys: KeysOption = DEFAULT, as_json: JsonOption = False) -> None:
    """List the keys, without their secrets.

    Example: marc keys list --keys runs/keys.json
    """
    from serving.keys import KeyFile

    with clear_errors():
        found = [key.to_json() for key in KeyFile(keys).keys().values()]
    shown: list[dict[str, Any]] = [{k: v for k, v in f.items() if k != "digest"} for f in found]
    if as_json:
        print_json(shown)
        return
    table = Table("id", "name", "scopes", "sees", "expires")
    for key in shown:
        bound = {k: v for k, v in key["bound"].items() if v}
        sees = ", ".join(f"{k} {v}" for k, v in bound.items()) or "everything"
        cells = (key["id"], key["name"], ", ".join(key["scopes"]), sees, key["expires_at"] or "")
        table.add_row(*map(plain, cells))
    out.print(table)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `marc keys list` shows it.")],
    keys: KeysOption = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Take a key back. Servers see it within a second; its links end with it.

    Example: marc keys revoke 1a2b3c4d
    """
    from serving.keys import Key, KeyFile

    def without(every: dict[str, Key]) -> None:
        if every.pop(key_id, None) is None:
            raise ConfigError(f"'{keys}' has no key '{key_id}'. `marc keys list` shows its keys.")

    with clear_errors():
        if not keys.exists():
            raise ConfigError(f"There is no file of keys '{keys}'. Name it with --keys.")
        KeyFile(keys).change(without)
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        say(f"key {key_id} revoked")
