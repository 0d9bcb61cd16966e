"""The manifests in deploy/kubernetes: valid by the published schemas, as restricted as pods can be, and consistent."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from p2prec.api.exposition import Exposition
from p2prec.cli.start import metrics_address, parse_address

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = ("base", "people")
VERSIONS = ("1.28", "1.31", "1.34")
"""Of Kubernetes, whose schemas the manifests must satisfy."""
PATCHES = ("kustomization.yaml", "peers.yaml")
"""Not resources of their own."""

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl to render the overlays with")


def files(overlay: str) -> list[Path]:
    return [path for path in sorted((FOLDER / overlay).glob("*.yaml")) if path.name not in PATCHES]


def documents(text: str) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(text)


def source(overlay: str) -> list[dict[str, Any]]:
    return [document for path in files(overlay) for document in documents(path.read_text(encoding="utf-8"))]


def rendered(overlay: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER / overlay)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(documents(done.stdout))


def one(resources: list[dict[str, Any]], kind: str, name: str = "p2prec") -> dict[str, Any]:
    (found,) = (r for r in resources if r["kind"] == kind and r["metadata"]["name"] == name)
    return found


BASE = source("base")
POD = one(BASE, "StatefulSet")["spec"]["template"]
(PEER,) = POD["spec"]["containers"]
PORTS = {port["name"]: port["containerPort"] for port in PEER["ports"]}


def validate(resources: list[dict[str, Any]], version: str) -> None:
    library = pytest.importorskip("kubernetes_validate", reason="needs p2prec[deploy]: 100 MB of published schemas")
    for resource in resources:
        library.validate(resource, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_resource_is_valid(overlay: str, version: str) -> None:
    validate(source(overlay), version)


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_renders_to_valid_resources(overlay: str) -> None:
    resources = rendered(overlay)
    validate(resources, VERSIONS[-1])
    assert {r["metadata"].get("namespace", "p2prec") for r in resources} == {"p2prec"}


def test_every_file_is_part_of_its_overlay() -> None:
    for overlay in OVERLAYS:
        listed = yaml.safe_load((FOLDER / overlay / "kustomization.yaml").read_text(encoding="utf-8"))
        assert {path.name for path in files(overlay)} <= set(listed["resources"])


def pods(resources: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for resource in resources:
        if "template" in resource.get("spec", {}):
            yield resource["spec"]["template"]["spec"]


def check_restricted(pod: dict[str, Any]) -> None:
    """The rules of https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, and a little more."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        assert not pod.get(name)
    allowed = {"secret", "emptyDir", "persistentVolumeClaim"}
    assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"])
    for container in (*pod["containers"], *pod.get("initContainers", ())):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]["limits"]) == {"cpu", "memory"} == set(container["resources"]["requests"])


def test_pods_ask_for_no_privilege_and_have_limits() -> None:
    for overlay in OVERLAYS:
        for pod in pods(source(overlay)):
            check_restricted(pod)
    levels = one(BASE, "Namespace")["metadata"]["labels"]
    assert {levels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "warn", "audit")} == {"restricted"}


@needs_kubectl
def test_the_patched_pods_are_as_strict_and_mount_only_what_they_have() -> None:
    for pod in pods(rendered("people")):
        check_restricted(pod)
        have = {volume["name"] for volume in pod["volumes"]} | {"state"}
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert {mount["name"] for mount in container["volumeMounts"]} <= have
    patched = one(rendered("people"), "StatefulSet")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert patched == [argument for argument in PEER["args"] if not argument.startswith("--swarm=")]


def test_the_daemon_takes_its_arguments_and_they_fit_the_service() -> None:
    from p2prec.cli import start  # noqa: F401  registers the command
    from p2prec.cli.app import app

    shown = CliRunner().invoke(app, ["start", "--help"], env={"COLUMNS": "200"}).output
    arguments = [argument.partition("=")[::2] for argument in PEER["args"]]
    assert all(option in shown for option, _ in arguments)
    given = dict(arguments)
    assert parse_address(given["--listen"], "--listen") == ("0.0.0.0", PORTS["peers"])
    assert metrics_address(given["--metrics"]) == ("0.0.0.0", PORTS["metrics"])
    service, peers = one(BASE, "Service"), one(BASE, "StatefulSet")["spec"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == peers["selector"]["matchLabels"] == POD["metadata"]["labels"]
    assert peers["serviceName"] == service["metadata"]["name"]
    seeds = [parse_address(value, option) for option, value in arguments if option == "--peer"]
    for host, port in seeds:
        number = re.fullmatch(rf"p2prec-(\d+)\.{service['metadata']['name']}", host)
        assert number is not None
        assert int(number[1]) < peers["replicas"]
        assert port == PORTS["peers"]


def test_probes_ask_for_a_page_that_is_there() -> None:
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = PEER[name]["httpGet"]
        assert asked["path"] in Exposition().pages
        assert asked["port"] == "metrics"
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(PORTS["metrics"])


def test_a_peer_keeps_its_identity_on_a_volume_of_its_own_and_its_group_does_not_get_its_keys() -> None:
    (claim,) = one(BASE, "StatefulSet")["spec"]["volumeClaimTemplates"]
    (mount,) = (mount for mount in PEER["volumeMounts"] if mount["name"] == claim["metadata"]["name"])
    state = {variable["name"]: variable["value"] for variable in PEER["env"]}["P2PREC_STATE"]
    # Below the mount: with fsGroup, the volume's own root is the group's.
    assert Path(state).parent == Path(mount["mountPath"])
    assert POD["spec"]["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_the_network_lets_peers_meet_and_nobody_else_in() -> None:
    policy = one(BASE, "NetworkPolicy")["spec"]
    same = {"podSelector": {"matchLabels": POD["metadata"]["labels"]}}
    assert policy["podSelector"] == same["podSelector"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    to_peers = {"ports": [{"protocol": "TCP", "port": "peers"}]}
    assert {"from": [same], **to_peers} in policy["ingress"]
    assert {"to": [same], **to_peers} in policy["egress"]
    assert all(rule.get("from") and rule["ports"] for rule in policy["ingress"])
    assert all(rule.get("to") and rule["ports"] for rule in policy["egress"])
