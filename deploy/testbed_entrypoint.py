"""Start one container's peer under `p2prec testbed`: as `entrypoint.py` does, but with the testbed's settings.

The folder that TESTBED names is shared with the testbed: `settings.toml` for all peers, `status/`, where each peer writes its
status, and `clock/HOSTNAME`, by how many seconds that container's clock is to be wrong from its next start on.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import tomllib
from pathlib import Path

import tomli_w
from entrypoint import become_somebody

from p2prec.errors import P2PRecError
from p2prec.storage.state import StateDirectory

FAKETIME = "/opt/libfaketime.so.1"
SETTINGS = Path("/tmp/settings.toml")


def main() -> int:
    folder = Path(os.environ["TESTBED"])
    directory = StateDirectory.open(Path(os.environ["P2PREC_STATE"]))
    try:
        become_somebody(Path(os.environ.get("PEOPLE_DIR", "/people")), directory)
        with directory.open_store() as store:
            person = store.get_meta("container_person") or ""
        settings = own_settings(folder, person, socket.gethostname())
    except (P2PRecError, OSError, tomllib.TOMLDecodeError) as error:
        print(f"p2prec: {error}", file=sys.stderr)
        return 1
    SETTINGS.write_text(tomli_w.dumps(settings), encoding="utf-8")
    set_clock(folder / "clock" / socket.gethostname())
    from p2prec.cli import main as p2prec

    sys.argv = ["p2prec", "start", "--settings", str(SETTINGS), *sys.argv[1:]]
    p2prec()
    return 0


def own_settings(folder: Path, person: str, hostname: str) -> dict[str, object]:
    """The testbed's settings, with where this peer writes its status and which part of this person's history it holds out:
    the same in every run, so that runs compare. Raises OSError, TOMLDecodeError."""
    settings = tomllib.loads((folder / "settings.toml").read_text(encoding="utf-8"))
    secret = hashlib.sha256(f"p2prec testbed {person}".encode()).hexdigest()[:64]
    return {**settings, "holdout_secret": secret, "status_file": str(folder / "status" / f"{person}-{hostname}.json")}


def set_clock(path: Path) -> None:
    """Make the daemon that this process becomes believe in another time, if `path` says by how many seconds."""
    try:
        offset_s = float(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return
    # The monotonic clock is left alone: a device whose date is wrong still counts seconds.
    os.environ |= {"LD_PRELOAD": FAKETIME, "FAKETIME": f"{offset_s:+.0f}s", "DONT_FAKE_MONOTONIC": "1"}


if __name__ == "__main__":
    sys.exit(main())
