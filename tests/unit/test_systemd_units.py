"""The units in deploy/systemd: valid, hardened, and about commands that exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = ("p2prec.service", "user/p2prec.service")
MAX_EXPOSURE = 2.5
"""Of 10: what `systemd-analyze security` says, less being better."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze (Debian and Ubuntu: apt install systemd)"
)


def values(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", (FOLDER / unit).read_text(encoding="utf-8"), re.MULTILINE)


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_exposes_little(unit: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(FOLDER / unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= MAX_EXPOSURE, done.stdout


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_knows_every_setting(unit: str, tmp_path: Path) -> None:
    copy = tmp_path / "p2prec.service"
    # Where p2prec is installed on the device, nothing is here.
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", (FOLDER / unit).read_text(), flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(copy) in line]) == (0, [])


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_starts_the_daemon_with_options_that_it_has(unit: str) -> None:
    from p2prec.cli import start
    from p2prec.cli.app import app

    (line,) = values(unit, "ExecStart")
    program, command, *arguments = shlex.split(line)
    assert (Path(program).name, command) == ("p2prec", start.start.__name__)
    shown = CliRunner().invoke(app, ["start", "--help"], env={"COLUMNS": "200"}).output
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert option in shown


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_waits_for_what_the_daemon_tells_and_does_not_repeat_mistakes(unit: str) -> None:
    assert values(unit, "Type") == ["notify"]
    assert values(unit, "NotifyAccess") == ["main"]
    assert values(unit, "RestartPreventExitStatus") == ["2"]  # docs/reference-cli.md: it was asked wrongly


def test_the_admins_command_is_the_services_user() -> None:
    script = (FOLDER / "p2precctl").read_text(encoding="utf-8")
    for key in ("DynamicUser", "User", "StateDirectory", "StateDirectoryMode", "CacheDirectory", "UMask"):
        (value,) = values("p2prec.service", key)
        assert f"-p {key}={value}" in script


def test_the_drop_in_undoes_only_what_needs_namespaces() -> None:
    """Each of its settings is one of the user unit's: a new one there that needs a namespace must be undone here as well."""
    undone = set(re.findall(r"^(\w+)=", (FOLDER / "user" / "no-namespaces.conf").read_text(), re.MULTILINE))
    kept = {"NoNewPrivileges", "RestrictAddressFamilies", "SystemCallFilter", "MemoryDenyWriteExecute", "UMask"}
    assert all(values("user/p2prec.service", key) for key in undone | kept)
    assert not undone & kept
