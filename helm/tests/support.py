"""Where things are, and Helm as a function."""

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "helm" / "bucketferry"
# As in helm/generate.
CONFIGURATION = Path(os.environ.get("BUCKETFERRY_CONFIGURATION", REPOSITORY / "docs" / "configuration.md"))
SCENARIOS = sorted((CHART / "ci").glob("*-values.yaml"))
NAMESPACE = "ftp"
# The oldest that Chart.yaml allows, the first with the native sleep, and the newest there are schemas for.
VERSIONS = ["1.29.0", "1.30.0", kubernetes_validate.latest_version()]
NEWEST = VERSIONS[-1]

Manifest = dict[str, Any]


def gateway_binary() -> str:
    """The gateway to ask; a test without it would prove nothing."""
    path = os.environ.get("BUCKETFERRY_BIN", "")
    if not path or not Path(path).is_file():
        raise FileNotFoundError(f"BUCKETFERRY_BIN is {path!r}, and should be the gateway's binary")
    return path


def helm(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Helm with these arguments."""
    return subprocess.run(["helm", *arguments], input=stdin, text=True, capture_output=True, check=False)


def template(values: str, version: str = NEWEST, *more: str) -> subprocess.CompletedProcess[str]:
    """The chart with these values, given as YAML."""
    return helm(
        "template", "ferry", str(CHART), "--namespace", NAMESPACE, "--kube-version", version,
        "--values", "-", *more, stdin=values,
    )  # fmt: skip


@cache
def rendered(scenario: Path, version: str = NEWEST) -> list[Manifest]:
    """The objects of a scenario."""
    result = template(scenario.read_text(), version)
    if result.returncode != 0:
        raise AssertionError(f"{scenario.name} with Kubernetes {version}: {result.stderr}")
    return [manifest for manifest in yaml.safe_load_all(result.stdout) if manifest]


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """Those of these kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def workload(manifests: list[Manifest]) -> Manifest:
    """The Deployment or StatefulSet."""
    (only,) = of_kind(manifests, "Deployment", "StatefulSet")
    return only


def gateway_pod(manifests: list[Manifest]) -> Manifest:
    """What the pods of the gateway are made from."""
    return workload(manifests)["spec"]["template"]


def pods(manifests: list[Manifest]) -> list[Manifest]:
    """Every pod, with its name and spec: that of the gateway, and those of tests."""
    return [gateway_pod(manifests), *of_kind(manifests, "Pod")]


def public_services(manifests: list[Manifest]) -> list[Manifest]:
    """The Services that clients connect to."""
    component = "app.kubernetes.io/component"
    return [service for service in of_kind(manifests, "Service") if service["metadata"]["labels"][component] == "ftp"]


def toml_of(manifests: list[Manifest]) -> str:
    """The gateway's configuration."""
    files = [config.get("data", {}).get("bucketferry.toml") for config in of_kind(manifests, "ConfigMap")]
    (text,) = filter(None, files)
    return text
