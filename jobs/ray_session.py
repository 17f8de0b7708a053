"""Joining a Ray cluster, or starting one for this command: with a deadline, without noise."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.terminal import say
from marc_core.errors import ClusterError, MarcError

REACH_S = 10.0
"""Seconds for the first answer of a cluster's address (our choice)."""
JOIN_S = 90.0
"""Seconds for joining a cluster that answers (our choice: a busy head takes tens)."""
_RAY_LINE = re.compile(rb"\[[^\]]* [IW] \d+ \d+\] ")
"""A line of Ray's C++ side below the level of an error."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The Ray that this process is connected to. head: HOST:PORT, empty where it is not known.
    joined: whether others may have started it, and may end it."""

    head: str
    joined: bool

    def answers(self) -> bool:
        """Return whether its head still takes connections, or was never known."""
        host, _, port = self.head.rpartition(":")
        try:
            if host:
                socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
        except OSError:
            return False
        return True

    def ended(self) -> ClusterError:
        """Return the error of whoever needed it when it ended."""
        how = "joined" if self.joined else "started"
        return ClusterError(
            f"The Ray that MARC had {how} ({self.head}) has ended, and with it this command. "
            "`--address local` starts one that no other command ends."
        )


@contextmanager
def ray_session(address: str | None = None, *, min_cpus: int = 0) -> Iterator[Cluster]:
    """Connect to a cluster, or start a local one for this process.

    The cluster is that of `address`, else of RAY_ADDRESS, else one that runs on this machine;
    `local` always starts one. It has as many CPUs as the machine, in its books at least `min_cpus`.
    Raises ClusterError where an address leads nowhere, and in place of whatever goes wrong because
    the cluster has ended.
    """
    import ray

    # Ray starts its processes by fork and immediate exec, which LanceDB's threads survive.
    warnings.filterwarnings("ignore", message="lancedb fork support", category=RuntimeWarning)
    address = address or os.environ.get("RAY_ADDRESS")
    connects, joined = not ray.is_initialized(), True
    if connects:
        logging.getLogger("ray").setLevel(logging.ERROR)
        if address in (None, "local"):
            noted = running() if address is None else None
            joined = noted is not None
            say(
                f"joining the Ray that runs on this machine ({noted}); `--address local` starts "
                "one of its own"
                if joined
                else "starting Ray on this machine"
            )
            with _without_ray_lines():
                _join_or_start(noted or "local", min_cpus)
        else:
            _join(str(address))
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    cluster = Cluster(_head(), joined)
    try:
        yield cluster
    except Exception as error:
        if isinstance(error, MarcError) or cluster.answers():
            raise
        raise cluster.ended() from error
    finally:
        if connects:
            ray.shutdown()


def running() -> str | None:
    """Return the address of the Ray that runs on this machine, as Ray has noted it, if it answers.

    A head that was killed leaves its note, and Ray would wait for it for minutes.
    """
    from ray._private.utils import read_ray_address

    noted: str | None = read_ray_address()
    try:
        if noted is not None:
            _check_reachable(noted, "")
    except ClusterError:
        return None
    return noted


def _head() -> str:
    """Return HOST:PORT of the head of the cluster that this process is connected to."""
    import ray

    if not ray.is_initialized() or ray.util.client.ray.is_connected():
        return ""
    return str(ray.get_runtime_context().gcs_address)


def _join(address: str) -> None:
    """Join the cluster at `address`. Raises ClusterError within `REACH_S` or `JOIN_S`."""
    import ray

    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    nowhere = (
        f"No Ray cluster answers at '{address}'. Check RAY_ADDRESS or --address, and that the "
        "cluster runs (`ray status`); `--address local` starts one on this machine."
    )
    if address != "auto":
        _check_reachable(address, nowhere)
    say(f"joining the Ray cluster at {address}")
    use_token()
    try:
        with _without_ray_lines(), _deadline(JOIN_S):
            ray.init(
                address=address,
                logging_level=logging.WARNING,
                log_to_driver=_shows_worker_logs(),
            )
    except (ConnectionError, TimeoutError, RuntimeError) as error:
        if address == "auto":
            raise ClusterError(nowhere) from error
        raise ClusterError(
            f"What answers at '{address}' could not be joined: {' '.join(str(error).split())} If "
            "it asks for a token, export RAY_AUTH_TOKEN or put the cluster's token into "
            "~/.ray/auth_token; `--address local` starts a Ray on this machine."
        ) from error


def _shows_worker_logs() -> bool:
    """Return whether what workers log is shown here, too; Ray keeps it in its session's logs."""
    return bool(os.environ.get("MARC_WORKER_LOGS"))


def use_token() -> None:
    """Let Ray's clients send the token that this user has, unless RAY_AUTH_MODE says otherwise.

    Ray 2.60 gives new clusters token authentication, but sends none to an address that is named.
    """
    from ray._private.authentication import authentication_token_setup as ray_tokens

    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.ERROR)  # what Ray says of it is meant for whoever starts a cluster
    try:
        ray_tokens.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    finally:
        logger.setLevel(level)


def _check_reachable(address: str, nowhere: str) -> None:
    """Raise ClusterError unless a gRPC server, as a head is one, answers at `address`.

    Ray's own connecting cannot be interrupted, so whatever merely listens there must be found out
    before.
    """
    if address.startswith(("http://", "https://")):
        raise ClusterError(
            f"'{address}' is the address of a dashboard. Send the command there with `marc submit "
            f"--address {address} -- ...`, or name the cluster as HOST:6379."
        )
    import grpc

    place = address.split("://", 1)[-1].split("/", 1)[0].split("?", 1)[0]
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(
            f"A Ray address is HOST:PORT, ray://HOST:PORT, auto or local. Got '{address}'."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
        if os.environ.get("RAY_USE_TLS", "0") in ("", "0"):
            with grpc.insecure_channel(f"{host}:{port}") as channel:
                grpc.channel_ready_future(channel).result(timeout=REACH_S)
    except (OSError, grpc.FutureTimeoutError) as error:
        raise ClusterError(nowhere) from error


def _join_or_start(address: str, min_cpus: int) -> None:
    """Join the Ray of this machine at `address`, or start one: `local`. Raises ClusterError."""
    import ray

    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    options: dict[str, Any] = {
        "include_dashboard": False,
        "log_to_driver": _shows_worker_logs(),
        "logging_level": logging.ERROR,
        "runtime_env": _worker_environment(),
    }
    if address != "local":
        use_token()
    elif min_cpus > (os.cpu_count() or 1):
        options["num_cpus"] = min_cpus
    try:
        ray.init(address=address, **options)
    except ConnectionError as error:
        raise ClusterError(
            f"The Ray of this machine ({address}) could not be joined: it ended, or is too busy. "
            "`--address local` starts one."
        ) from error


def _worker_environment() -> dict[str, Any]:
    """Make a checkout importable by local workers; an installed package is so anyway."""
    root = Path(__file__).resolve().parents[1]
    path = os.environ.get("PYTHONPATH", "")
    if not (root / "pyproject.toml").is_file() or str(root) in path.split(os.pathsep):
        return {}
    return {"env_vars": {"PYTHONPATH": f"{root}{os.pathsep}{path}" if path else str(root)}}


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in this block after `seconds`; in the main thread, the only one that
    signals reach."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: Any) -> None:
        raise TimeoutError(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _without_ray_lines() -> Iterator[None]:
    """Keep Ray's notes about itself off standard error; all else that is written there stays.

    Ray's C++ side writes them past every Python logger.
    """
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, ValueError, AttributeError):  # no standard error to keep clean
        yield
        return
    with tempfile.TemporaryFile() as buffer:
        os.dup2(buffer.fileno(), 2)
        try:
            yield
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            buffer.seek(0)
            for line in buffer:
                if not _RAY_LINE.match(line):
                    os.write(2, line)
