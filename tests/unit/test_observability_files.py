"""The dashboard, alerts and overlay in deploy/observability: whole, consistent, and about metrics that exist."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "observability"
DASHBOARD = json.loads((FOLDER / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
METRIC = re.compile(r"\b(?:p2prec|process)_[a-z0-9_]+\b")


def load(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def documented() -> set[str]:
    rows = (ROOT / "docs" / "reference-metrics.md").read_text(encoding="utf-8")
    names = set(re.findall(r"^\| `([a-z0-9_]+)` \| (\w+)", rows, re.MULTILINE))
    histograms = {
        f"{name}_{part}" for name, kind in names if kind == "histogram" for part in ("bucket", "sum", "count")
    }
    return {name for name, _ in names} | histograms


def metrics_in(expression: str) -> set[str]:
    return set(METRIC.findall(expression))


def test_every_panel_says_what_it_shows_in_what_unit() -> None:
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        assert all(target["expr"] for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_query_is_of_the_chosen_peers_and_metrics_that_exist() -> None:
    known = documented()
    for panel in PANELS:
        for target in panel["targets"]:
            assert metrics_in(target["expr"]) <= known, panel["title"]
            selectors = re.findall(r"\{([^}]*)\}", target["expr"])
            assert selectors
            assert all(selector.startswith('job="$job",instance=~"$instance"') for selector in selectors)


def test_no_panel_draws_a_line_per_peer() -> None:
    """A thousand peers, a thousand lines: what a person can read is the spread."""
    for panel in PANELS:
        for target in panel["targets"]:
            assert re.match(r"(histogram_quantile|sum|avg|min|max|quantile)\b", target["expr"]), target["expr"]
            assert "by (instance" not in target["expr"]


def test_alerts_are_about_metrics_that_exist_and_each_is_tested() -> None:
    rules = [rule for group in load("alerts.yml")["groups"] for rule in group["rules"]]
    tested = {case["alertname"] for test in load("alerts.test.yml")["tests"] for case in test["alert_rule_test"]}
    for rule in rules:
        assert metrics_in(rule["expr"]) <= documented()
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert {rule["alert"] for rule in rules} == tested


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool (Debian and Ubuntu: apt install prometheus)")
@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml")],
)
def test_promtool_is_content(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_overlay_fits_the_compose_file_and_mounts_what_is_there() -> None:
    overlay, base = load("compose.yml"), yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert "peer" in base["services"]
    port = overlay["services"]["peer"]["environment"]["P2PREC_METRICS"].rpartition(":")[2]
    (scrape,) = load("prometheus.yml")["scrape_configs"]
    assert scrape["dns_sd_configs"][0] | {"refresh_interval": ""} == {
        "names": ["peer"], "type": "A", "port": int(port), "refresh_interval": "",
    }  # fmt: skip
    for name in ("prometheus", "grafana"):
        service = overlay["services"][name]
        assert all(published.startswith("127.0.0.1:") for published in service["ports"])
        for mount in service["volumes"]:
            source, _, target = mount.partition(":")
            if source.startswith("."):
                assert (ROOT / source).is_file(), source  # compose resolves them against the first file's folder
                assert target.endswith(":ro")
            else:
                assert source in overlay["volumes"]


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0,
    reason="no docker compose",
)
def test_compose_takes_the_overlay() -> None:
    command = ["docker", "compose", "-f", "docker-compose.yml", "-f", "deploy/observability/compose.yml", "config"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert {"people", "peer", "prometheus", "grafana"} <= set(services)
    assert services["peer"]["environment"]["P2PREC_METRICS"] == "0.0.0.0:9464"


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    (source,) = load("grafana/datasource.yml")["datasources"]
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["current"]["value"] == source["uid"]
    (provider,) = load("grafana/provider.yml")["providers"]
    mounts = load("compose.yml")["services"]["grafana"]["volumes"]
    assert any(mount.split(":")[1].startswith(provider["options"]["path"]) for mount in mounts)
