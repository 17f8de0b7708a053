"""`marc submit` and `ray job submit` against a real head node with its job server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.submit import PACKAGES, submit_when_ready, uploads
from marc_core.errors import ConfigError, MarcError
from tests.head import running_head

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    with running_head(Path(sys.executable)) as address:
        yield address


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", "submit", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


@pytest.mark.slow
def test_submitted_index_writes_the_memory(
    head: str, tmp_path: Path, clip_writer: Callable[..., Path]
) -> None:
    clip_writer(tmp_path / "archive" / "a b.mp4")
    archive, memory = str(tmp_path / "archive"), str(tmp_path / "memory")
    result = run("--address", head, "--", "index", archive, "--memory", memory)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "SUCCEEDED" in result.stdout + result.stderr
    assert "1 video found" in result.stdout + result.stderr
    from marc_core.config import MemoryConfig
    from marc_core.memory import MemoryStore

    (row,) = MemoryStore.open(MemoryConfig(uri=memory)).videos().to_pylist()
    assert (row["status"], row["num_frames"]) == ("indexed", 40)


@pytest.mark.slow
def test_a_failing_job_fails_the_command(head: str, tmp_path: Path) -> None:
    result = run("--address", head, "--", "index", str(tmp_path / "nowhere"))
    assert result.returncode == 1
    assert "nowhere" in result.stdout + result.stderr


def test_no_head_is_one_clear_line() -> None:
    result = run("--address", "http://127.0.0.1:9", "--", "status")
    assert result.returncode == 2
    assert "ray start --head" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site-packages folder as `pip install` leaves it: ours and gigabytes of others'."""
    for name in (*PACKAGES, "torch", "marc_video-0.1.0.dist-info"):
        (tmp_path / "site-packages" / name).mkdir(parents=True)
    return tmp_path / "site-packages"


def test_an_installation_uploads_its_own_packages_only(site: Path) -> None:
    environment = uploads(site, None)
    assert environment["py_modules"] == [str(site / name) for name in PACKAGES]
    assert "working_dir" not in environment


def test_another_project_around_the_installation_is_no_checkout(site: Path) -> None:
    (site / "pyproject.toml").write_text("[project]\nname = 'someone-else'\n")
    assert "working_dir" not in uploads(site, None)


def test_a_checkout_is_the_working_directory() -> None:
    environment = uploads(ROOT, None)
    assert environment["working_dir"] == str(ROOT)
    assert "py_modules" not in environment
    assert uploads(ROOT, ROOT) == environment


@pytest.mark.parametrize("checkout", [True, False])
def test_a_folder_of_the_user_comes_beside_our_packages(
    checkout: bool, site: Path, tmp_path: Path
) -> None:
    root = ROOT if checkout else site
    (tmp_path / "mine").mkdir()
    environment = uploads(root, tmp_path / "mine")
    assert environment["working_dir"] == str(tmp_path / "mine")
    assert environment["py_modules"] == [str(root / name) for name in PACKAGES]


def test_a_working_directory_that_is_none_is_refused(site: Path) -> None:
    with pytest.raises(ConfigError, match="--working-dir must be a folder"):
        uploads(site, site / "nowhere")


def test_exclusions_take_nothing_of_the_packages() -> None:
    """`docs` without a slash would take every folder of that name, inside the packages, too."""
    from pathspec import PathSpec

    spec = PathSpec.from_lines("gitignore", uploads(ROOT, None)["excludes"])
    sources = [f.relative_to(ROOT) for p in PACKAGES for f in (ROOT / p).rglob("*.*")]
    lost = [str(f) for f in sources if spec.match_file(f) and "__pycache__" not in f.parts]
    assert not lost
    assert spec.match_file("docs/index.md")
    assert spec.match_file("marc_core/__pycache__/a.pyc")


class StartingHead:
    """A job client whose head gets its agent after `refusals` tries."""

    def __init__(self, refusals: int, reason: str = "No available agent to submit job") -> None:
        self.refusals, self.reason, self.tries = refusals, reason, 0

    def submit_job(self, *, entrypoint: str) -> str:
        self.tries += 1
        if self.tries <= self.refusals:
            raise RuntimeError(f"Request failed with status code 500: {self.reason}.")
        return f"job of {entrypoint}"


def test_a_head_that_has_just_started_is_waited_for() -> None:
    head = StartingHead(refusals=1)
    assert submit_when_ready(head, entrypoint="x", wait_s=0.01) == "job of x"
    assert head.tries == 2


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("No available agent to submit job", "no agent that starts jobs.*ray status"),
        ("Job with submission_id a already exists", "refused the job.*a already exists"),
    ],
)
def test_a_head_that_takes_no_job_is_one_line(reason: str, message: str) -> None:
    with pytest.raises(MarcError, match=message) as caught:
        submit_when_ready(StartingHead(10_000, reason), entrypoint="x", wait_s=0.01)
    assert "\n" not in str(caught.value)
