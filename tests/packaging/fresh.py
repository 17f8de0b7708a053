"""A fresh environment that holds the wheel, and the files that the wheel should hold."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("marc_core", "pipelines", "jobs", "serving")


def tracked_files() -> list[Path]:
    """Return the files of the project that git tracks or would track, relative to its root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


@dataclass(frozen=True)
class Installed:
    """An environment of its own, and an empty folder to work in."""

    bin: Path
    site: Path
    home: Path

    def marc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `marc` from an empty folder, with nothing of the checkout on the path."""
        done = subprocess.run(
            [self.bin / "marc", *arguments], cwd=self.home, env=self.env(),
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def env(self) -> dict[str, str]:
        return {
            "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }


def fresh_environment(root: Path) -> Installed:
    """Make an environment that borrows this one's dependencies by a path line.

    A plain path line does not execute this environment's own .pth files, so that an editable
    installation of the checkout stays invisible.
    """
    venv.create(root / "env", with_pip=False)
    site = root / "env" / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (root / "empty").mkdir()
    return Installed(bin=root / "env" / "bin", site=site, home=root / "empty")
