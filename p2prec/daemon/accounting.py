"""What the kernel says about this process, its control group and its network: in a container, the container's (Linux)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

CGROUP = Path("/sys/fs/cgroup")
NETWORK = Path("/proc/self/net")


def usage(cgroup: Path = CGROUP, network: Path = NETWORK) -> dict[str, Any]:
    """What the process has cost so far, ready for JSON. What the system does not tell is None.

    `cpu_s`: of this process. `cgroup`: see `cgroup_usage`. `network`: see `network_usage`.
    """
    return {"cpu_s": round(time.process_time(), 3), "cgroup": cgroup_usage(cgroup), "network": network_usage(network)}


def cgroup_usage(root: Path = CGROUP) -> dict[str, float] | None:
    """Memory and CPU of the control group mounted at `root`, of version 2 or 1; None where there is none.

    `memory_bytes` is without the page cache that the kernel can take back at once, as container engines count it.
    `throttled_s`: time in which the group wanted to run and its CPU limit did not let it.
    """
    try:
        if (root / "memory.current").exists():
            cpu = _pairs(root / "cpu.stat")
            memory = _number(root / "memory.current") - _pairs(root / "memory.stat").get("inactive_file", 0)
            used_s, throttled_s = cpu["usage_usec"] / 1e6, cpu.get("throttled_usec", 0) / 1e6
        else:
            cpu = _pairs(root / "cpu" / "cpu.stat")
            inactive = _pairs(root / "memory" / "memory.stat").get("total_inactive_file", 0)
            memory = _number(root / "memory" / "memory.usage_in_bytes") - inactive
            used_s = _number(root / "cpuacct" / "cpuacct.usage") / 1e9
            throttled_s = cpu.get("throttled_time", 0) / 1e9
    except (OSError, ValueError, KeyError):
        return None
    return {"memory_bytes": max(0, memory), "cpu_s": round(used_s, 3), "throttled_s": round(throttled_s, 3)}


def network_usage(root: Path = NETWORK) -> dict[str, int] | None:
    """Datagrams and connections of the network namespace since it began; None where the system does not tell.

    `datagrams_in`: UDP received (almost all of it mDNS); `datagrams_lost`: those that found the socket's buffer full.
    """
    try:
        lines = (root / "snmp").read_text(encoding="ascii").splitlines()
        tables = {}
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            protocol = names.partition(":")[0]
            tables[protocol] = dict(zip(names.split()[1:], map(int, values.split()[1:]), strict=True))
        udp, tcp = tables["Udp"], tables["Tcp"]
        return {
            "datagrams_in": udp["InDatagrams"],
            "datagrams_out": udp["OutDatagrams"],
            "datagrams_lost": udp["RcvbufErrors"],
            "connections_dialled": tcp["ActiveOpens"],
            "connections_accepted": tcp["PassiveOpens"],
        }
    except (OSError, ValueError, KeyError):
        return None


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _pairs(path: Path) -> dict[str, int]:
    lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {line[0]: int(line[1]) for line in lines if len(line) == 2}
