"""A compose file, played without an engine: containers by systemd-nspawn, networks by ip(8).

What the file says is done as an engine would: services in the order of `depends_on` and its
conditions, a network namespace for each (or another's), names in /etc/hosts, volumes that begin
as the folder of the image that they cover, configs of root's and of no more than their mode, the
image's user, environment and entry point. The image itself is read-only to all of them.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from .debian_tree import run
from .image import Image

PATIENCE = 60.0
_ONE_SHOT = "service_completed_successfully"


class Compose:
    """The services of *file* on *image*, with everything they write in *folder*."""

    def __init__(self, file: Path, image: Image, folder: Path) -> None:
        document = yaml.safe_load(file.read_text())
        self.services: dict[str, dict[str, Any]] = document["services"]
        self._configs: dict[str, dict[str, Any]] = document["configs"]
        self._image = image
        self._roots = {name: image.mount() for name in self.services if self._config_of(name)}
        self._bare = image.mount()
        self._folder = folder
        self._mark = f"sc{os.getpid() % 100_000}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._rooms = [name for name in self.services if self._room(name) == name]

    # -- the networks

    def __enter__(self) -> Compose:
        try:
            self._lay()
        except AssertionError as error:
            self._lift()
            pytest.skip(f"no network namespaces here: {str(error)[-200:]}")
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        self._lift()

    def _config_of(self, name: str) -> list[dict[str, str]]:
        return self.services[name].get("configs", [])

    def _room(self, name: str) -> str:
        """Return whose network namespace the service *name* is in."""
        mode = self.services[name].get("network_mode", "")
        return mode.removeprefix("service:") if mode.startswith("service:") else name

    def _lay(self) -> None:
        hub = f"{self._mark}-hub"
        run("ip", "netns", "add", hub)
        run("ip", "-n", hub, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", hub, "link", "set", "bridge", "up")
        hosts = ["127.0.0.1 localhost"]
        for number, name in enumerate(self._rooms, start=2):
            own = f"{self._mark}-{name}"
            run("ip", "netns", "add", own)
            run("ip", "-n", own, "link", "set", "lo", "up")
            if self.services[name].get("network_mode") == "none":
                continue
            ends = (f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", own)
            run("ip", "-n", hub, "link", "add", *ends)
            run("ip", "-n", hub, "link", "set", f"v{number}", "master", "bridge", "up")
            run("ip", "-n", own, "addr", "add", f"10.89.0.{number}/24", "dev", "eth0")
            run("ip", "-n", own, "link", "set", "eth0", "up")
            hosts.append(f"10.89.0.{number} {name}")
        (self._folder / "hosts").write_text("\n".join(hosts) + "\n")

    def _lift(self) -> None:
        for name in ("hub", *self._rooms):
            with suppress(AssertionError):
                run("ip", "netns", "delete", f"{self._mark}-{name}")

    # -- the services

    def up(self) -> None:
        """Start every service when what it depends on is as it asks."""
        for name in self.order():
            for other, how in self.services[name].get("depends_on", {}).items():
                self._wait(other, how["condition"])
            if self._running.get(name) is None or self._running[name].poll() is not None:
                self._start(name)

    def order(self) -> list[str]:
        """Return the services, each after those that it depends on."""
        found: dict[str, None] = {}

        def add(name: str, above: tuple[str, ...] = ()) -> None:
            assert name not in above, f"{name} waits for itself"
            needs = [*self.services[name].get("depends_on", {}), self._room(name)]
            for other in needs:
                if other != name:
                    add(other, (*above, name))
            found[name] = None

        for name in self.services:
            add(name)
        return list(found)

    def down(self) -> None:
        """End all services; volumes stay."""
        for child in self._running.values():
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self._running.values():
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait(15)
        self._running.clear()

    def wait(self, name: str) -> str:
        """Wait for the end of the service *name*; return what it said."""
        self._wait(name, _ONE_SHOT)
        return self.said(name)

    def said(self, name: str) -> str:
        return _own_words((self._folder / f"{name}.log").read_text(errors="replace"))

    def run(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run *command* beside the service *name*, in the same place."""
        done = subprocess.run(
            self._container(name, command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        done.stdout = _own_words(done.stdout)
        return done

    def _start(self, name: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as out:
            self._running[name] = subprocess.Popen(
                self._container(name, self._command(name)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _wait(self, name: str, condition: str) -> None:
        if condition == _ONE_SHOT:
            code = self._running[name].wait(PATIENCE)
            assert code == 0, f"{name} ended with {code}\n{self.said(name)}"
            return
        assert condition == "service_healthy", condition
        deadline = time.monotonic() + PATIENCE
        while (looked := self.run(name, *self._healthcheck(name))).returncode:
            assert self._running[name].poll() is None, f"{name} ended\n{self.said(name)}"
            assert time.monotonic() < deadline, f"{name}: {looked.stdout}\n{self.said(name)}"
            time.sleep(0.2)

    def _healthcheck(self, name: str) -> list[str]:
        [kind, *command] = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return [_plain(part) for part in command]

    def _command(self, name: str) -> list[str]:
        service, config = self.services[name], self._image.config
        entry = service.get("entrypoint", config["Entrypoint"])
        usual = [] if "entrypoint" in service else config["Cmd"]
        return [_plain(part) for part in (*entry, *service.get("command", usual))]

    # -- one container

    def _container(self, name: str, command: tuple[str, ...] | list[str]) -> list[str]:
        user, _, group = self._image.config["User"].partition(":")
        environment = self._image.environment | self.services[name].get("environment", {})
        # nspawn wants a name for a user; an engine takes a number.
        become = f"exec setpriv --reuid {user} --regid {group} --clear-groups --no-new-privs"
        become += f" --bounding-set=-all -- {shlex.join(command)}"
        return [
            *("systemd-nspawn", "-q", "-D", str(self._roots.get(name, self._bare)), "--read-only"),
            *("--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=off"),
            *("--timezone=off", f"--machine={self._mark}-{name}-{time.monotonic_ns()}"),
            f"--network-namespace-path=/run/netns/{self._mark}-{self._room(name)}",
            *(f"--setenv={key}={value}" for key, value in environment.items()),
            *(f"--bind{how}={source}:{target}" for how, source, target in self._mounts(name)),
            f"--chdir={self._image.config['WorkingDir']}",
            *("/bin/sh", "-c", become),
        ]

    def _mounts(self, name: str) -> Iterator[tuple[str, Path, str]]:
        service = self.services[name]
        yield "-ro", self._folder / "hosts", "/etc/hosts"
        yield "", self._volume(f"{name}.run", "/run/sidecar"), "/run/sidecar"
        for written in service.get("volumes", []):
            source, target, *how = written.split(":")
            yield "-ro" if how == ["ro"] else "", self._volume(source, target), target
        for config in self._config_of(name):
            target = config["target"]
            self._make_place(self._roots[name] / target[1:])
            yield "-ro", self._config(config), target

    def _volume(self, name: str, target: str) -> Path:
        """Return the volume *name*, new ones as the folder of the image that they cover."""
        path, like = self._folder / "volumes" / name, (self._bare / target[1:]).stat()
        if not path.exists():
            path.mkdir(parents=True)
            os.chown(path, like.st_uid, like.st_gid)
            path.chmod(like.st_mode & 0o7777)
        return path

    def _config(self, config: dict[str, Any]) -> Path:
        name = config["source"]
        path = self._folder / "configs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(_plain(self._configs[name]["content"]))
        path.chmod(config.get("mode", 0o440))  # as the engine does, whatever the manual says
        return path

    def _make_place(self, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


def _own_words(text: str) -> str:
    """Return *text* without what nspawn says where /run is on a disk."""
    return re.sub(r"^Attempted to remove disk file system .*\n\n?", "", text, flags=re.MULTILINE)


def _plain(text: str) -> str:
    """What compose makes of *text* where no variable is named: `$$` is `$`."""
    assert not re.search(r"(?<!\$)\$(?!\$)", text), f"a variable of the caller's: {text}"
    return text.replace("$$", "$")
