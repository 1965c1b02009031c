"""The image, built without an engine: buildah on a Debian, with packages that are there before.

Nothing is fetched while it builds: what the locks name is downloaded by this interpreter's pip,
which asks whom its user told it to, and checked against the locks' hashes twice.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .debian import ROOT, passing, run_pip
from .debian_tree import run

_PIP = "[global]\nno-index = true\nfind-links = /wheels\n"


@dataclass(frozen=True)
class Image:
    """An image: its *config*, and `mount`, which returns its files as a container has them."""

    config: dict[str, Any]
    mount: Callable[[], Path]

    @property
    def environment(self) -> dict[str, str]:
        return dict(one.split("=", 1) for one in self.config["Env"])


class Builder:
    """buildah with a storage of its own in *folder*, which leaves nothing anywhere else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept = ExitStack()

    def __enter__(self) -> Builder:
        self._kept.enter_context(passing(self._folder))
        self._kept.callback(self._unmount)
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    def _unmount(self) -> None:
        self._buildah("umount", "--all")
        overlay = self._folder / "storage" / "overlay"
        if overlay.is_mount():
            run("umount", overlay)

    def _buildah(self, *argv: str | Path, timeout: float = 120) -> str:
        where = ("--root", self._folder / "storage", "--runroot", self._folder / "run")
        return run("buildah", *where, *argv, timeout=timeout)

    def _container(self, base: str) -> tuple[str, Path]:
        name = self._buildah("from", "--pull-never", base).strip()
        return name, Path(self._buildah("mount", name).strip())

    def import_base(self, tree: Path) -> str:
        """Make an image of *tree*; return its name."""
        if f"python3.{sys.version_info.minor}" not in os.listdir(tree / "usr/lib"):
            pytest.skip("the base's Python is not this one, for which packages can be had")
        container, mounted = self._container("scratch")
        run("cp", "-a", f"{tree}/.", mounted)
        shutil.rmtree(mounted / "opt/sidecar")
        self._buildah("commit", "-q", container, "localhost/test/python:base")
        return "localhost/test/python:base"

    def build(self, base: str) -> Image:
        """Build the Dockerfile on *base*."""
        wheels = self._folder / "wheels"
        for lock in ("runtime", "build"):
            locked = ("--require-hashes", "--only-binary", ":all:", "-r")
            run_pip("download", "-q", "-d", wheels, *locked, ROOT / f"requirements/{lock}.txt")
        conf = self._folder / "pip.conf"
        conf.write_text(_PIP)
        how = ("--isolation", "chroot", "--format", "docker", "--pull-never", "-q")
        mounts = ("-v", f"{wheels}:/wheels:ro", "-v", f"{conf}:/etc/pip.conf:ro")
        name = ("--build-arg", f"BASE={base}", "-t", "localhost/test/sidecar", ROOT)
        self._buildah("bud", *how, *mounts, *name, timeout=300)
        told = json.loads(self._buildah("inspect", "localhost/test/sidecar"))
        return Image(told["Docker"]["config"], lambda: self._container("localhost/test/sidecar")[1])
