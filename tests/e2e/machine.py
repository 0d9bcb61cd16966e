"""A machine of its own with a real systemd, on this one: namespaces, and an overlay over its root.

Needs root; changes nothing here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
ROOT = Path(__file__).parents[2]
BOOT_DEADLINE_S = 60.0
COMMAND_DEADLINE_S = 120.0

BOOT = r"""
set -e
scratch=$1 r=$1/root
mount --make-rprivate /
mount -t tmpfs tmpfs "$scratch"
mkdir -p "$scratch"/upper "$scratch"/work "$r"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$r"
mount -t proc proc "$r/proc"
mount -t sysfs sysfs "$r/sys"
mount -t cgroup2 cgroup2 "$r/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$r/dev"
for n in null zero full random urandom tty; do touch "$r/dev/$n"; mount --bind "/dev/$n" "$r/dev/$n"; done
mkdir "$r/dev/pts" "$r/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$r/dev/pts"
ln -s pts/ptmx "$r/dev/ptmx"
mount -t tmpfs -o mode=755 tmpfs "$r/run"
mount -t tmpfs tmpfs "$r/tmp"
ip link set lo up
# Nothing of this machine's own services: only what the units under test pull in.
rm -rf "$r"/etc/systemd/system/*.wants "$r"/var/log/journal
ln -sf /dev/null "$r/etc/systemd/system/systemd-sysctl.service"
cat > "$r/etc/systemd/system/try.target" <<END
[Unit]
Requires=basic.target systemd-journald.service dbus.service
After=basic.target
END
mkdir -p "$r/opt/python" "$r/opt/p2prec/bin" "$r/opt/p2prec/packages" "$r/opt/p2prec/source" "$r/old"
mount --bind "$BASE" "$r/opt/python"
mount --bind "$PACKAGES" "$r/opt/p2prec/packages"
mount --bind "$SOURCE" "$r/opt/p2prec/source"
# What runs these tests, where a service that may not read root's home can read it.
cat > "$r/opt/p2prec/bin/p2prec" <<END
#!/bin/sh
export PYTHONHOME=/opt/python LD_LIBRARY_PATH=/opt/python/lib PYTHONPATH=/opt/p2prec/source:/opt/p2prec/packages
export PYTHONDONTWRITEBYTECODE=1
exec /opt/python/bin/$PYTHON -m p2prec "\$@"
END
chmod +x "$r/opt/p2prec/bin/p2prec"
cd "$r"
pivot_root . old
umount -l /old
mount --make-rshared /
cd /
export container=docker
exec /lib/systemd/systemd --system --unit=try.target --log-target=journal --show-status=no
"""


class CannotBoot(Exception):
    """Not here: the reason, for a test to skip with."""


@dataclass
class Machine:
    """Boot it, run commands in it, and shut it off."""

    scratch: Path
    """An empty directory; what the machine writes is in memory, over it."""
    process: subprocess.Popen[bytes] | None = None
    cgroup: Path | None = None
    leader: int = 0
    """The machine's first process, as this machine counts."""

    def boot(self) -> None:
        """Raises CannotBoot."""
        for missing in (tool for tool in ("unshare", "nsenter", "pivot_root", "ip") if shutil.which(tool) is None):
            raise CannotBoot(f"no {missing}")
        if not SYSTEMD.exists() or os.geteuid() != 0:
            raise CannotBoot("needs root and systemd (Debian and Ubuntu: apt install systemd dbus)")
        self.cgroup = _own_cgroup()
        environment = {
            **os.environ,
            "BASE": sys.base_prefix,
            "PACKAGES": sysconfig.get_path("purelib"),
            "SOURCE": str(ROOT),
            "PYTHON": Path(os.path.realpath(sys.executable)).name,
        }
        namespaces = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")
        command = ["unshare", "--fork", "--kill-child", *namespaces, "bash", "-c", BOOT, "boot", str(self.scratch)]
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.scratch.parent / "boot.log").open("wb"),
            preexec_fn=lambda: _enter(self.cgroup),
        )
        deadline = time.monotonic() + BOOT_DEADLINE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(CannotBoot, subprocess.SubprocessError):
                self.leader = _child_of(self.process.pid)
                if self.run("systemctl", "is-active", "try.target", check=False).stdout.strip() == "active":
                    return
            time.sleep(0.1)
        raise CannotBoot(f"systemd did not come up: {(self.scratch.parent / 'boot.log').read_text()[-500:]}")

    def run(self, *command: str, check: bool = True, given: str = "") -> subprocess.CompletedProcess[str]:
        """A command as the machine's root. Raises AssertionError when it fails, unless told not to."""
        enter = ["nsenter", "-t", str(self.leader), "-m", "-p", "-n", "-u", "-i", "-C", "-r", "-w"]
        done = subprocess.run(
            [*enter, *command], capture_output=True, text=True, input=given, timeout=COMMAND_DEADLINE_S, check=False
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def write(self, path: str, content: str, *, mode: str = "644") -> None:
        """Raises AssertionError."""
        self.run("install", "-D", "-m", mode, "/dev/stdin", path, given=content)

    def shut_off(self) -> None:
        """Everything in it ends; nothing of it stays."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
        if self.cgroup is not None:
            _remove(self.cgroup)


def _own_cgroup() -> Path:
    """A group for the machine in the hierarchy of version 2. Raises CannotBoot."""
    for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        if (root / "cgroup.procs").exists() and (root / "cgroup.controllers").exists():
            try:
                own = root / f"p2prec-machine-{os.getpid()}"
                own.mkdir()
                return own
            except OSError as error:
                raise CannotBoot(f"no control group can be made: {error}") from error
    raise CannotBoot("no control groups of version 2")


def _enter(cgroup: Path | None) -> None:
    assert cgroup is not None
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))


def _remove(cgroup: Path) -> None:
    """From the leaves up, once the kernel has let go of the processes that were in it."""
    deadline = time.monotonic() + 10.0
    while cgroup.exists() and time.monotonic() < deadline:
        for path in sorted(cgroup.rglob("*/"), key=lambda p: -len(p.parts)):
            with contextlib.suppress(OSError):
                path.rmdir()
        with contextlib.suppress(OSError):
            cgroup.rmdir()
        time.sleep(0.05)


def _child_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if not children:
        raise CannotBoot("not started yet")
    return int(children[0])
