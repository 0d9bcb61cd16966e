from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from devices import Device, MakeDevice, environment, make_manifest

from p2prec.config import TransportKind
from p2prec.manifest import Manifest


@pytest.fixture
def transport(request: pytest.FixtureRequest) -> TransportKind:
    """What the devices speak: TLS, unless a test asks for `both_transports`."""
    kind: TransportKind = getattr(request, "param", TransportKind.TLS)
    return kind


@pytest.fixture(scope="session")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def manifest() -> Manifest:
    """An open swarm with rounds of 0.2 s."""
    return make_manifest()


@pytest.fixture
def make_device(
    tmp_path: Path, clean_environment: dict[str, str], manifest: Manifest, transport: TransportKind
) -> Iterator[MakeDevice]:
    """Makes devices that have joined the swarm; ends their daemons, and shows their logs when the test fails."""
    devices: list[Device] = []

    def make(name: str, *, joined: Manifest | None = manifest, secret: bytes | None = None) -> Device:
        device = Device(tmp_path / name, clean_environment, transport)
        devices.append(device)
        if joined is not None:
            device.join(joined, secret)
        return device

    yield make
    for device in devices:
        if device.running:
            with contextlib.suppress(Exception):
                device.kill()
        print(f"--- log of {device.path.name}\n{device.log_text()[-5000:]}")
