"""`marc submit`: run a `marc` command on a cluster, a thin layer on the Ray job API."""

from __future__ import annotations

import asyncio
import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from jobs.common import clear_errors, console, print_json
from jobs.options import JsonOption
from marc_core.errors import MarcError

EXCLUDES = [".git", ".venv", "runs", "demo-archive", "docs", "tests", "**/__pycache__", ".*_cache"]
"""Not uploaded with the working directory."""


def submit(
    arguments: Annotated[
        list[str], typer.Argument(metavar="COMMAND [ARGUMENTS]...", help="As for `marc` itself.")
    ],
    address: Annotated[
        str, typer.Option(envvar="RAY_DASHBOARD_ADDRESS", help="Dashboard of the head node.")
    ] = "http://127.0.0.1:8265",
    working_dir: Annotated[
        Path | None, typer.Option(help="Folder to upload; default: this project's.")
    ] = None,
    submission_id: Annotated[str | None, typer.Option(help="Name of the job; must be new.")] = None,
    wait: Annotated[bool, typer.Option(help="Follow the logs until the job ends.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Submit a marc command as a Ray job and follow its logs; the exit code is the job's.

    Example: marc submit --address http://head:8265 -- index s3://bucket/videos -m s3://bucket/memory
    """
    with clear_errors():
        client = _client(address)
        job_id = client.submit_job(
            entrypoint="python -m jobs.cli " + shlex.join(arguments),
            submission_id=submission_id,
            runtime_env={
                "working_dir": str(working_dir or Path(__file__).resolve().parents[1]),
                "excludes": EXCLUDES,
            },
        )
        console.print(f"job {job_id} submitted to {address}")
        status = (
            asyncio.run(_follow(client, job_id)) if wait else str(client.get_job_status(job_id))
        )
    if as_json:
        print_json({"job_id": job_id, "status": status})
    if wait and status != "SUCCEEDED":
        raise typer.Exit(1)


def _client(address: str):
    _use_token()
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise MarcError(
            f"The head at '{address}' asks for a token. Export RAY_AUTH_TOKEN, or put the "
            "cluster's token into ~/.ray/auth_token."
        ) from error
    except ConnectionError as error:
        raise MarcError(
            f"No Ray head answers at '{address}'. Start one with `ray start --head`, or name "
            "its dashboard with --address."
        ) from error


def _use_token() -> None:
    """Let Ray's client send the token that this user has.

    Ray 2.60 gives new clusters token authentication, but its job client sends none unless told.
    """
    has_token = "RAY_AUTH_TOKEN" in os.environ or (Path.home() / ".ray" / "auth_token").is_file()
    if has_token:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


async def _follow(client, job_id: str) -> str:
    async for lines in client.tail_job_logs(job_id):
        console.file.write(lines)
    info = client.get_job_info(job_id)
    console.print(f"job {job_id}: {info.status}" + (f" ({info.message})" if info.message else ""))
    return str(info.status)
