"""`marc submit`: run a `marc` command on a cluster, a thin layer on the Ray job API."""

from __future__ import annotations

import asyncio
import shlex
import time
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

import marc_core
from jobs.common import clear_errors, console, print_json
from jobs.options import JsonOption
from jobs.ray_session import use_token
from jobs.terminal import say
from marc_core.errors import ConfigError, MarcError

PACKAGES = ("marc_core", "pipelines", "jobs", "serving")
"""What `pip install` puts beside one another, and a job needs of this project."""

EXCLUDES = [
    "/.git", "/.venv", "/runs", "/build", "/dist", "/demo-archive", "/docs", "/tests",
    "**/__pycache__", ".*_cache",
]  # fmt: skip
"""Not uploaded, neither of a checkout nor of the packages."""

AGENT_WAIT_S = 60.0
"""The job server answers before the agent that starts jobs is up."""


def uploads(root: Path, working_dir: Path | None) -> dict[str, Any]:
    """Return the job's runtime environment: what is uploaded to the cluster.

    root: the folder that holds PACKAGES. A checkout is uploaded as the working directory; of an
    installation (`root` is site-packages) only our own packages are, never the folder. With
    `working_dir`, that folder and our packages.

        checkout                        working_dir: the checkout
        checkout, --working-dir FOLDER  working_dir: FOLDER, py_modules: packages of the checkout
        wheel                           py_modules: the installed packages
        wheel, --working-dir FOLDER     working_dir: FOLDER, py_modules: the installed packages
    """
    if working_dir is not None and not working_dir.is_dir():
        raise ConfigError(f"--working-dir must be a folder. Got '{working_dir}'.")
    if is_checkout(root) and working_dir in (None, root):
        return {"working_dir": str(root), "excludes": EXCLUDES}
    found: dict[str, Any] = {"py_modules": [str(root / name) for name in PACKAGES]}
    if working_dir is not None:
        found["working_dir"] = str(working_dir)
    return found | {"excludes": EXCLUDES}


def is_checkout(root: Path) -> bool:
    """Return whether `root` is a folder of this project's sources, not of installed packages."""
    file = root / "pyproject.toml"
    if not file.is_file():
        return False
    return bool(tomllib.loads(file.read_text()).get("project", {}).get("name") == "marc-video")


def _describe(environment: dict[str, Any]) -> str:
    """Return one line that says what is uploaded."""
    parts = []
    if "working_dir" in environment:
        parts.append(f"the folder {environment['working_dir']}")
    if "py_modules" in environment:
        parts.append(f"marc {marc_core.__version__} ({', '.join(PACKAGES)})")
    return f"uploading {' and '.join(parts)}; the nodes need only marc's dependencies"


def submit(
    arguments: Annotated[
        list[str], typer.Argument(metavar="COMMAND [ARGUMENTS]...", help="As for `marc` itself.")
    ],
    address: Annotated[
        str, typer.Option(envvar="RAY_DASHBOARD_ADDRESS", help="Dashboard of the head node.")
    ] = "http://127.0.0.1:8265",
    working_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of yours to upload; a checkout's own goes by itself."),
    ] = None,
    submission_id: Annotated[str | None, typer.Option(help="Name of the job; must be new.")] = None,
    wait: Annotated[bool, typer.Option(help="Follow the logs until the job ends.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Submit a marc command as a Ray job and follow its logs; the exit code is the job's.

    Example: marc submit --address http://head:8265 -- index s3://bucket/videos -m s3://bucket/memory
    """
    with clear_errors():
        root = Path(__file__).resolve().parents[1]
        environment = uploads(root, working_dir and working_dir.resolve())
        client = _client(address)
        say(_describe(environment))
        job_id = submit_when_ready(
            client,
            entrypoint="python -m jobs.cli " + shlex.join(arguments),
            submission_id=submission_id,
            runtime_env=environment,
        )
        say(f"job {job_id} submitted to {address}")
        status = (
            asyncio.run(_follow(client, job_id)) if wait else str(client.get_job_status(job_id))
        )
    if as_json:
        print_json({"job_id": job_id, "status": status})
    if wait and status != "SUCCEEDED":
        raise typer.Exit(1)


def submit_when_ready(client: Any, *, wait_s: float = AGENT_WAIT_S, **job: Any) -> str:
    """Submit the job and return its id; a head that has just started gets `wait_s` seconds.

    Raises MarcError when the head has no agent by then, or refuses the job.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return str(client.submit_job(**job))
        except RuntimeError as error:  # the job client knows no other class
            if "No available agent" not in str(error):
                first = str(error).strip().splitlines()[0]
                raise MarcError(f"The head refused the job: {first}") from error
            if time.monotonic() > deadline:
                raise MarcError(
                    f"The head has no agent that starts jobs, {wait_s:.0f} s after the first try. "
                    "Look at the nodes with `ray status`, and at dashboard_agent.log on the head: "
                    "a second Ray on its machine may hold the port "
                    "(ray start --dashboard-agent-listen-port)."
                ) from error
            time.sleep(min(1.0, wait_s))


def _client(address: str):
    use_token()
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


async def _follow(client, job_id: str) -> str:
    async for lines in client.tail_job_logs(job_id):
        console.file.write(lines)
    info = client.get_job_info(job_id)
    say(f"job {job_id}: {info.status}" + (f" ({info.message})" if info.message else ""))
    return str(info.status)
