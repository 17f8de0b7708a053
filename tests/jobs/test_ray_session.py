"""An address that leads nowhere ends in one line within seconds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.ray_session import _RAY_LINE, _deadline, _without_ray_lines, ray_session
from marc_core.errors import ClusterError


@pytest.fixture(autouse=True)
def no_ray_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a session begin as in a new process, though other tests may have a cluster."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_dead_address_is_said_at_once(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"{scheme}127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    started = time.monotonic()
    with pytest.raises(ClusterError, match="No Ray cluster answers at") as caught, ray_session():
        pytest.fail("joined a cluster that is not there")
    assert time.monotonic() - started < 15
    assert address in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [("http://head:8265", "marc submit"), ("somewhere", "HOST:PORT"), ("host:port", "HOST:PORT")],
)
def test_other_wrong_addresses_say_what_is_right(address: str, said: str) -> None:
    with pytest.raises(ClusterError, match=said), ray_session(address):
        pytest.fail("joined")


def test_a_host_without_a_name_is_said() -> None:
    with pytest.raises(ClusterError, match="answers"), ray_session("no-such-host.invalid:6379"):
        pytest.fail("joined")


@pytest.mark.parametrize(
    ("address", "noted", "said"),
    [
        ("local", "10.0.0.1:6379", "starting Ray on this machine"),
        (None, None, "starting Ray on this machine"),
        (None, "10.0.0.1:6379", "joining the Ray that runs on this machine (10.0.0.1:6379); "),
    ],
)
def test_whether_it_joins_or_starts_is_said_before_it_takes_its_time(
    address: str | None,
    noted: str | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*_: object) -> None:
        raise ClusterError("stop here")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("jobs.ray_session.running", lambda: noted)
    monkeypatch.setattr("jobs.ray_session._join_or_start", stop)
    with pytest.raises(ClusterError, match="stop here"), ray_session(address):
        pytest.fail("started")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


def test_what_goes_wrong_when_the_cluster_has_ended_is_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray.init", lambda **_: None)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as head:
        place = f"127.0.0.1:{head.getsockname()[1]}"
        monkeypatch.setattr("jobs.ray_session.running", lambda: place)
        monkeypatch.setattr("jobs.ray_session._head", lambda: place)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        with pytest.raises(ValueError, match="its own"), ray_session():
            raise ValueError("its own")
    with pytest.raises(ClusterError, match=f"had joined .{place}. has ended"), ray_session():
        raise RuntimeError("The actor died")


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_what_listens_and_never_answers_is_no_cluster(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.ray_session.REACH_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{scheme}127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ClusterError, match="No Ray cluster answers"), ray_session(address):
            pytest.fail("joined a cluster that is not there")
    assert time.monotonic() - started < 15


def test_the_note_of_a_head_that_was_killed_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray._private.utils.read_ray_address", lambda: f"127.0.0.1:{free_port()}")
    asked: list[object] = []
    monkeypatch.setattr("ray.init", lambda address, **_: asked.append(address))
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with ray_session():
        pass
    assert asked == ["local"]


def test_a_deadline_ends_what_never_answers() -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError), _deadline(0.2):
        time.sleep(30)
    assert time.monotonic() - started < 10


def test_rays_notes_are_dropped_and_all_else_stays(capfd: pytest.CaptureFixture[str]) -> None:
    note = b"[2026-11-26 01:09:25,689 I 11906 11906] logging.cc:303: Set ray log level\n"
    fault = b"[2026-11-26 01:09:25,689 E 11906 11906] core_worker.cc:1: broken\n"
    assert _RAY_LINE.match(note)
    with _without_ray_lines():
        os.write(2, note)
        os.write(2, fault)
        sys.stderr.write("a warning\n")
    seen = capfd.readouterr().err.splitlines()
    assert sorted(seen) == [fault.decode().strip(), "a warning"]


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "auto", None])
def test_whoever_joins_sends_the_users_token(
    address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("jobs.ray_session.running", lambda: "127.0.0.1:6379")
    monkeypatch.setattr("jobs.ray_session._check_reachable", lambda *_: None)
    monkeypatch.setattr("jobs.ray_session.use_token", lambda: done.append("token"))
    monkeypatch.setattr("ray.init", lambda **_: done.append("joined"))
    with ray_session(address):
        assert done == ["token", "joined"]


@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token_is_joined_with_the_users(tmp_path: Path) -> None:
    """As Ray 2.60 starts one where a token is known: its own client would send none."""
    (tmp_path / ".ray").mkdir()
    token = tmp_path / ".ray" / "auth_token"
    token.write_text("a" * 32)
    address = f"127.0.0.1:{free_port()}"
    hidden = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS")
    env = {n: v for n, v in os.environ.items() if n not in hidden} | {"HOME": str(tmp_path)}
    code = f"from jobs.ray_session import ray_session\nwith ray_session({address!r}): print('in')"
    start = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=1",
        f"--port={address.split(':')[1]}", "--include-dashboard=false", "--disable-usage-stats",
    ]  # fmt: skip

    def joined() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=180)

    with open(tmp_path / "head.txt", "w") as said:
        head = subprocess.Popen(start, env=env, stdout=said, stderr=said)
    try:
        until_listening(address)
        assert joined().stdout == "in\n"
        token.write_text("b" * 32)
        refused = joined()
        assert refused.stdout == ""
        assert "RAY_AUTH_TOKEN" in refused.stderr
    finally:
        head.terminate()
        head.wait(60)


def until_listening(address: str) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 120
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the head has not started"
            time.sleep(0.2)
