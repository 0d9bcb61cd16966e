"""A real Prometheus scrapes real peers: every query of the dashboard has an answer, and every alert can be evaluated."""

from __future__ import annotations

import json
import math
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from devices import LOOPBACK, Device, make_manifest, until

from p2prec.manifest import PrivacyParameters

FOLDER = Path(__file__).parents[2] / "deploy" / "observability"
DASHBOARD = json.loads((FOLDER / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
TASTES = (range(0, 24, 2), range(0, 30, 3), range(0, 40, 4))
BUDGETED = msgspec.structs.replace(
    make_manifest(), privacy=PrivacyParameters(noise_multiplier=1.0, epsilon_budget=1000.0)
)
VARIABLES = {"$job": "p2prec", "$instance": ".+", "$__rate_interval": "5s"}

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no prometheus here (Debian and Ubuntu: apt install prometheus)"
)


@dataclass(frozen=True)
class Prometheus:
    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of the answer. Raises OSError while it does not answer."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.SERVICE_UNAVAILABLE:  # it is starting
                raise
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from error

    def answers(self, expression: str) -> bool:
        """Whether a query has any sample that is a number (infinity is one)."""
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        samples = self.get("query", query=expression)["result"]
        return any(not math.isnan(float(sample["value"][1])) for sample in samples)

    def up(self) -> int:
        try:
            return sum(target["health"] == "up" for target in self.get("targets", state="active")["activeTargets"])
        except OSError:
            return 0


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory, clean_environment: dict[str, str]) -> Iterator[list[str]]:
    """Three that learn together; HOST:PORT of their metrics."""
    folder = tmp_path_factory.mktemp("peers")
    devices = [Device(folder / name, clean_environment) for name in "abc"]
    for device, taste in zip(devices, TASTES, strict=True):
        device.join(BUDGETED)
        device.log_plays(taste)
    first, *others = devices
    try:
        first.serve(holdout_fraction=0.3, metrics=(LOOPBACK, 0))
        for device in others:
            device.serve(first, holdout_fraction=0.3, metrics=(LOOPBACK, 0))
        for device in devices:
            device.until(lambda status: status["exchanges"] > 0 and status["quality"]["held_out"] > 0, "learns")
        yield [metrics_address(device) for device in devices]
    finally:
        for device in devices:
            if device.running:
                device.kill()


def metrics_address(device: Device) -> str:
    found = re.search(r"metrics at http://(\S+)/metrics", device.log_text())
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def prometheus(peers: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """With the configuration of deploy/observability, but for how peers are found and how often they are asked."""
    tmp_path = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"}
    (scrape,) = config["scrape_configs"]
    del scrape["dns_sd_configs"]
    scrape["static_configs"] = [{"targets": peers}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    shutil.copy(FOLDER / "alerts.yml", tmp_path)
    address = f"{LOOPBACK}:{free_port()}"
    command = [
        "prometheus",
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'series'}",
        f"--web.listen-address={address}",
    ]
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        found = Prometheus(f"http://{address}")
        until(lambda: found.up() == len(peers), "Prometheus has scraped every peer")
        yield found
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    """Prometheus cannot say which port it was given, so it gets one that was free a moment ago."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        return int(listener.getsockname()[1])


def test_every_panel_shows_something(prometheus: Prometheus) -> None:
    queries = {
        (panel["title"], target["refId"]): target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    }
    assert len(queries) > 50

    def all_answered() -> bool:
        for name in [name for name, expression in queries.items() if prometheus.answers(expression)]:
            del queries[name]
        return not queries

    try:
        until(all_answered, "every query has an answer")
    except AssertionError:
        pytest.fail(f"no answer to {queries}")


def test_every_variable_offers_something(prometheus: Prometheus) -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((\w+).*, (\w+)\)", variable["definition"])
            assert found is not None
            metric, label = found.groups()
            assert prometheus.get(f"label/{label}/values", **{"match[]": metric}), variable["name"]


def test_alerts_can_be_evaluated_and_none_fires(prometheus: Prometheus) -> None:
    def evaluated() -> list[dict[str, Any]] | None:
        rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
        return rules if rules and all(rule["health"] != "unknown" for rule in rules) else None

    rules = until(evaluated, "the alerts are evaluated")
    assert {rule["health"] for rule in rules} == {"ok"}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
