"""The Restricted pod security standard, and what this chart promises beyond it, checked on a pod."""

from typing import Any, Iterator

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def violations(pod: dict[str, Any]) -> list[str]:
    """What is wrong with a pod's spec."""
    return [*of_pod(pod), *(wrong for container in containers(pod) for wrong in of_container(pod, container))]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod."""
    return [*pod.get("initContainers", []), *pod["containers"], *pod.get("ephemeralContainers", [])]


def of_pod(pod: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the pod itself."""
    for host in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(host):
            yield f"{host} is on"
    for volume in pod.get("volumes", []):
        if kinds := set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is a {kinds}"
    context = pod.get("securityContext", {})
    if context.get("sysctls"):
        yield "it sets sysctls"
    if context.get("runAsUser") == 0:
        yield "it runs as root"
    if pod.get("enableServiceLinks") is not False:
        yield "enableServiceLinks is on: BUCKETFERRY_PORT would be set"
    if "automountServiceAccountToken" not in pod:
        yield "it leaves the token to the ServiceAccount"


def of_container(pod: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    """What is wrong with one of its containers."""
    context = container.get("securityContext", {})
    inherited = {**pod.get("securityContext", {}), **context}
    name = container["name"]
    if context.get("privileged"):
        yield f"{name} is privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may escalate privileges"
    if inherited.get("runAsNonRoot") is not True:
        yield f"{name} may run as root"
    if inherited.get("runAsUser") == 0:
        yield f"{name} runs as root"
    if inherited.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"{name} has no seccomp profile"
    if context.get("capabilities", {}).get("drop") != ["ALL"]:
        yield f"{name} keeps capabilities"
    if set(context.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name} adds capabilities"
    if context.get("procMount", "Default") != "Default":
        yield f"{name} has another /proc"
    if context.get("readOnlyRootFilesystem") is not True:
        yield f"{name} can write its root file system"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield f"{name} takes ports of the host"
    if not container.get("resources", {}).get("requests"):
        yield f"{name} requests no resources"
