"""Docker Compose, by its command line: what starts, changes and lists the testbed's containers."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2prec.errors import P2PRecError, UsageError

FILES = ("docker-compose.yml", "deploy/testbed.yml")
SERVICE = "peer"
COMMAND_DEADLINE_S = 120.0
UP_DEADLINE_S = 1800.0
"""Building the image for the first time included."""


class EngineError(P2PRecError):
    """The container engine is not there, or did not do what it was asked to."""


@dataclass(frozen=True, slots=True)
class Container:
    """One peer's container, as the engine sees it."""

    id: str
    name: str
    host: str
    """Its host name: what its status file is called by."""
    running: bool
    pid: int
    """Of its first process, in the engine's machine; 0 when it does not run."""
    address: str
    """IPv4 on the swarm's network; empty when it does not run."""
    restarts: int
    """By the engine, after the process ended by itself."""
    out_of_memory: bool

    @property
    def number(self) -> int:
        """Of the replica, from 1."""
        return int(self.name.rpartition("-")[2])


class Compose:
    """The compose project of one checkout."""

    def __init__(self, checkout: Path, environment: Mapping[str, str]) -> None:
        """checkout: the folder of docker-compose.yml. environment: variables for it. Raises UsageError, EngineError."""
        missing = [name for name in FILES if not (checkout / name).is_file()]
        if missing:
            raise UsageError(
                f"{checkout.absolute()} has no {missing[0]}",
                remedy="run this in a checkout of p2prec, or name it: --checkout",
            )
        self._checkout = checkout
        self._environment = {**os.environ, **environment}
        self.engine = self.docker("version", "--format", "Docker {{.Server.Version}}").strip()

    def build(self) -> None:
        """Make the images anew, where something has changed."""
        self._compose("build", "--quiet", deadline_s=UP_DEADLINE_S)

    def up(self, peers: int) -> None:
        """Start, or scale to, so many peers; returns when all have been started."""
        self._compose("up", "--detach", "--no-recreate", "--scale", f"{SERVICE}={peers}", deadline_s=UP_DEADLINE_S)

    def down(self) -> None:
        """Remove all containers, volumes and networks of the project."""
        self._compose("down", "--volumes", "--timeout", "5", deadline_s=UP_DEADLINE_S)

    def containers(self) -> list[Container]:
        """All containers of peers, running or not, in the order of their numbers."""
        ids = self._compose("ps", "--all", "--quiet", SERVICE).split()
        if not ids:
            return []
        found = [_container(entry) for entry in json.loads(self.docker("inspect", *ids))]
        return sorted(found, key=lambda container: container.number)

    def docker(self, *arguments: str, deadline_s: float = COMMAND_DEADLINE_S) -> str:
        """Run `docker ARGUMENTS` and return what it printed. Raises EngineError."""
        return self._run(["docker", *arguments], deadline_s)

    def _compose(self, *arguments: str, deadline_s: float = COMMAND_DEADLINE_S) -> str:
        files = [part for name in FILES for part in ("--file", str(self._checkout / name))]
        base = ["docker", "compose", "--project-directory", str(self._checkout), *files]
        return self._run([*base, *arguments], deadline_s)

    def _run(self, command: Sequence[str], deadline_s: float) -> str:
        try:
            done = subprocess.run(
                command, env=self._environment, capture_output=True, text=True, timeout=deadline_s, check=True
            )
        except FileNotFoundError:
            raise EngineError("no docker command was found; the testbed needs Docker with Compose v2") from None
        except subprocess.TimeoutExpired:
            raise EngineError(f"{' '.join(command[:3])} ... did not end within {deadline_s:.0f} s") from None
        except subprocess.CalledProcessError as error:
            reason = "\n".join(str(error.stderr).strip().splitlines()[-5:])
            raise EngineError(f"{' '.join(command)[:200]} failed:\n{reason}") from error
        return done.stdout


def _container(entry: dict[str, Any]) -> Container:
    """Read one object of `docker inspect`."""
    state, networks = entry["State"], entry["NetworkSettings"]["Networks"]
    address = next((network["IPAddress"] for network in networks.values() if network["IPAddress"]), "")
    return Container(
        id=entry["Id"],
        name=entry["Name"].removeprefix("/"),
        host=entry["Config"]["Hostname"],
        running=bool(state["Running"]) and not state["Restarting"],
        pid=int(state["Pid"]),
        address=address,
        restarts=int(entry["RestartCount"]),
        out_of_memory=bool(state["OOMKilled"]),
    )
