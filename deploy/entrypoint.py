"""Start one container's peer: take one person that no other container has, then run the daemon.

The shared folder /people (PEOPLE_DIR) holds `swarm.toml`, `histories/NNNN.csv`, and `claims/NNNN`, made here with O_EXCL so
that exactly one container gets a person. Which person it is, a container remembers in its own state directory, so when
restarted or recreated it stays who it was. Without a shared folder this is `p2prec start` and nothing else. Arguments go to
`p2prec start`.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from p2prec.errors import P2PRecError, StateError
from p2prec.storage import invitation
from p2prec.storage.state import StateDirectory


def main() -> int:
    people = Path(os.environ.get("PEOPLE_DIR", "/people"))
    if (people / "swarm.toml").exists():
        try:
            become_somebody(people, StateDirectory.open(Path(os.environ["P2PREC_STATE"])))
        except P2PRecError as error:
            print(f"p2prec: {error}", file=sys.stderr)
            return 1
    # In this process: a second start of Python would double the CPU that fifty peers need to come up.
    from p2prec.cli import main as p2prec

    sys.argv = ["p2prec", "start", *sys.argv[1:]]
    p2prec()
    return 0


def become_somebody(people: Path, directory: StateDirectory) -> None:
    """Join the swarm and hold one person's history. Raises P2PRecError."""
    from p2prec.data.delimited import BadRow
    from p2prec.data.readers import read_own_interactions

    directory.join(invitation.load(people / "swarm.toml"))
    with directory.open_store() as store:
        if store.get_meta("container_person") is not None:
            return
        # The local secret tells this container from others with its host name, in this life and the next.
        token = store.local_secret("container claim").hex()[:16]
        person = claim(people, f"{socket.gethostname()} {token}")
        rows = read_own_interactions(people / "histories" / f"{person}.csv", directory.catalogue())
        added = store.add_interactions(row for row in rows if not isinstance(row, BadRow))
        # Only now: a container killed in between imports again, which adds only what is missing.
        store.set_meta("container_person", person)
    print(f"this container is person {person}, with {added.added + added.already_present} interactions", flush=True)


def claim(people: Path, owner: str) -> str:
    """The first person whom nobody has, or whom `owner` claimed in an earlier life that was cut short.

    `owner`: host name, for people who look, and a token that is this container's alone.
    """
    claims = people / "claims"
    claims.mkdir(exist_ok=True)
    for history in sorted((people / "histories").glob("*.csv")):
        path = claims / history.stem
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            if path.read_text(encoding="utf-8").split()[-1:] == owner.split()[-1:]:
                return history.stem
            continue
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(owner)
        return history.stem
    raise StateError(
        f"every person in {people} is taken",
        remedy="prepare more (PEOPLE=600), or let go of those of removed containers: docker compose down -v",
    )


if __name__ == "__main__":
    sys.exit(main())
