"""The volumes of a pod as folders of the node, and the variables of its containers, both kept as the API has them."""

import base64
import os
import re
import shutil
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from api import Api, Mirror, Object
from control_plane import NODE_NAME
from network import NODE, PodNetwork

# The content and the mode of each file, by its path.
Files = dict[str, tuple[bytes, int]]
# A token is renewed when so much of its life is over, as the kubelet does it.
RENEWED_AFTER = 0.8


class NotThere(Exception):
    """A pod waits for an object that is not there yet."""


@dataclass
class Token:
    """A token of a service account, and when to renew it."""

    text: str
    renew_at: float


class Sources:
    """What the pods of the node are made from."""

    def __init__(self, api: Api, mirrors: dict[str, Mirror]) -> None:
        self.api = api
        self.mirrors = mirrors

    def data(self, resource: str, namespace: str, source: Object) -> dict[str, bytes]:
        """The values of a Secret or ConfigMap; none if it is optional and not there."""
        name = source.get("name") or source["secretName"]
        found = self.mirrors[resource].get(namespace, name)
        if found is None:
            if source.get("optional"):
                return {}
            raise NotThere(f"{resource} {name!r} not found")
        texts = {key: value.encode() for key, value in (found.get("data") or {}).items()}
        if resource == "secrets":
            return {key: base64.b64decode(value) for key, value in texts.items()}
        return texts | {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}

    def value(self, resource: str, namespace: str, source: Object) -> str | None:
        """One value of a Secret or ConfigMap."""
        data = self.data(resource, namespace, source)
        if source["key"] not in data and not source.get("optional"):
            raise NotThere(f"{resource} {source['name']!r} has no {source['key']!r}")
        return data[source["key"]].decode() if source["key"] in data else None

    def bind_claim(self, namespace: str, claim: str) -> None:
        """Tells that a claim has its volume, as a provisioner does."""
        found = self.mirrors["persistentvolumeclaims"].get(namespace, claim)
        if found is None:
            raise NotThere(f"persistentvolumeclaim {claim!r} not found")
        if found.get("status", {}).get("phase") != "Bound":
            self.api.patch("persistentvolumeclaims", namespace, claim, {"status": {"phase": "Bound"}}, sub="status")

    def token(self, pod: Object, source: Object) -> Token:
        """A new token for the pod's service account, which is valid as long as the pod is there."""
        metadata = pod["metadata"]
        seconds = source.get("expirationSeconds", 3600)
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        spec = {"audiences": [source["audience"]] if source.get("audience") else [], "expirationSeconds": seconds, "boundObjectRef": bound}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        made = self.api.create("serviceaccounts", metadata["namespace"], request, pod["spec"]["serviceAccountName"], "token")["status"]
        expires = datetime.fromisoformat(made["expirationTimestamp"]).timestamp()
        return Token(made["token"], time.time() + RENEWED_AFTER * (expires - time.time()))


class Volumes:
    """The volumes of one pod."""

    def __init__(self, pod: Object, folder: Path, claims: Path, sources: Sources) -> None:
        self.pod = pod
        self.folder = folder
        self.claims = claims
        self.sources = sources
        self.group: int | None = pod["spec"].get("securityContext", {}).get("fsGroup")
        self.written: dict[str, Files] = {}
        self.tokens: dict[str, Token] = {}

    def path(self, name: str) -> Path:
        """The folder of a volume."""
        (volume,) = [volume for volume in self.pod["spec"]["volumes"] if volume["name"] == name]
        if "persistentVolumeClaim" in volume:
            return self.claims / self.pod["metadata"]["namespace"] / volume["persistentVolumeClaim"]["claimName"]
        return self.folder / name

    def refresh(self, network: PodNetwork) -> None:
        """Makes all volumes, or brings their files up to date."""
        for volume in self.pod["spec"].get("volumes", []):
            path = self.path(volume["name"])
            if "emptyDir" in volume or "persistentVolumeClaim" in volume:
                self.make_folder(path, volume)
                continue
            files = self.files(volume, network)
            if self.written.get(volume["name"]) != files:
                write(path, files, self.group)
                self.written[volume["name"]] = files

    def make_folder(self, path: Path, volume: Object) -> None:
        """Makes a folder that all may write to; a claim's is there for all pods that mount it."""
        if "persistentVolumeClaim" in volume:
            self.sources.bind_claim(self.pod["metadata"]["namespace"], volume["persistentVolumeClaim"]["claimName"])
        if not path.exists():
            path.mkdir(parents=True)
            os.chown(path, 0, self.group or 0)
            path.chmod(0o2777)

    def files(self, volume: Object, network: PodNetwork) -> Files:
        """The files of a volume that is made from objects."""
        namespace = self.pod["metadata"]["namespace"]
        match volume:
            case {"configMap": source}:
                return chosen(self.sources.data("configmaps", namespace, source), source, source)
            case {"secret": source}:
                return chosen(self.sources.data("secrets", namespace, source), source, source)
            case {"projected": source}:
                files: Files = {}
                for number, part in enumerate(source["sources"]):
                    files |= self.projected(part, source, f"{volume['name']}/{number}", network)
                return files
            case {"downwardAPI": source}:
                return self.projected(volume, source, volume["name"], network)
        raise NotImplementedError(f"the volume {volume}")

    def projected(self, part: Object, projected: Object, name: str, network: PodNetwork) -> Files:
        """The files of one part of a projected volume."""
        namespace, mode = self.pod["metadata"]["namespace"], projected.get("defaultMode", 0o644)
        match part:
            case {"serviceAccountToken": source}:
                return {source["path"]: (self.token(name, source).encode(), 0o600 if self.group is None else 0o640)}
            case {"configMap": source}:
                return chosen(self.sources.data("configmaps", namespace, source), source, projected)
            case {"secret": source}:
                return chosen(self.sources.data("secrets", namespace, source), source, projected)
            case {"downwardAPI": source}:
                return {item["path"]: (field(self.pod, item["fieldRef"]["fieldPath"], network).encode(), mode) for item in source["items"]}
        raise NotImplementedError(f"the projected volume {part}")

    def token(self, name: str, source: Object) -> str:
        """The token of this volume, renewed in time. If the API server is away, the old one stays."""
        known = self.tokens.get(name)
        if known is None or time.time() >= known.renew_at:
            try:
                self.tokens[name] = self.sources.token(self.pod, source)
            except OSError:
                if known is None:
                    raise
        return self.tokens[name].text

    def renew_tokens(self) -> None:
        """Makes new tokens with the next refresh."""
        for token in self.tokens.values():
            token.renew_at = 0


def chosen(data: dict[str, bytes], source: Object, modes: Object) -> Files:
    """The files for these values: each by its key, or only those that are named."""
    mode = modes.get("defaultMode", 0o644)
    if not source.get("items"):
        return {key: (value, mode) for key, value in data.items()}
    missing = [item["key"] for item in source["items"] if item["key"] not in data]
    if missing and not source.get("optional"):
        raise NotThere(f"references non-existent keys {missing}")
    return {item["path"]: (data[item["key"]], item.get("mode", mode)) for item in source["items"] if item["key"] in data}


def write(folder: Path, files: Files, group: int | None) -> None:
    """Puts the files in place of the old ones all at once, by a link that is renamed, as the kubelet does it."""
    folder.mkdir(parents=True, exist_ok=True)
    version = folder / f"..{time.time_ns()}"
    for name, (content, mode) in files.items():
        path = version / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.chown(path, 0, group or 0)
        path.chmod(mode if group is None else mode | 0o440)
    version.mkdir(exist_ok=True)
    old = folder / "..data"
    before = os.readlink(old) if old.is_symlink() else None
    new = folder / "..data_tmp"
    new.symlink_to(version.name)
    new.rename(old)
    visible = {name.split("/")[0] for name in files}
    for name in visible:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    for entry in folder.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in visible:
            entry.unlink()
    if before:
        shutil.rmtree(folder / before)


def field(pod: Object, path: str, network: PodNetwork) -> str:
    """What a fieldRef says of the pod."""
    metadata, spec = pod["metadata"], pod["spec"]
    known = {
        "metadata.name": metadata["name"], "metadata.namespace": metadata["namespace"], "metadata.uid": metadata["uid"],
        "spec.nodeName": NODE_NAME, "spec.serviceAccountName": spec["serviceAccountName"], "status.hostIP": NODE,
        "status.podIP": network.address, "status.podIPs": f"{network.address},{network.address_v6}",
    }  # fmt: skip
    if label := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return metadata.get(label[1], {}).get(label[2], "")
    if path not in known:
        raise NotImplementedError(f"the field {path}")
    return known[path]


def environment(pod: Object, container: Object, sources: Sources, network: PodNetwork) -> dict[str, str]:
    """The variables of a container."""
    namespace = pod["metadata"]["namespace"]
    variables = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "HOSTNAME": pod["metadata"]["name"],
        "KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443", "KUBERNETES_SERVICE_PORT_HTTPS": "443",
        "KUBERNETES_PORT": "tcp://10.96.0.1:443",
    }  # fmt: skip
    for source in container.get("envFrom", []):
        for kind, resource in (("secretRef", "secrets"), ("configMapRef", "configmaps")):
            if kind in source:
                data = sources.data(resource, namespace, source[kind])
                variables |= {source.get("prefix", "") + key: value.decode() for key, value in data.items()}
    for variable in container.get("env", []):
        value = variable_of(pod, variable, sources, network)
        if value is not None:
            variables[variable["name"]] = expanded(value, variables)
    return variables


def variable_of(pod: Object, variable: Object, sources: Sources, network: PodNetwork) -> str | None:
    """The value of a variable, before others are put into it."""
    namespace = pod["metadata"]["namespace"]
    match variable.get("valueFrom"):
        case None:
            return variable.get("value", "")
        case {"fieldRef": source}:
            return field(pod, source["fieldPath"], network)
        case {"secretKeyRef": source}:
            return sources.value("secrets", namespace, source)
        case {"configMapKeyRef": source}:
            return sources.value("configmaps", namespace, source)
    raise NotImplementedError(f"the variable {variable}")


def expanded(text: str, variables: dict[str, Any]) -> str:
    """The text with $(NAME) replaced where NAME is known; $$ is a $."""
    return re.sub(r"\$\$|\$\(([^)]+)\)", lambda match: "$" if match[0] == "$$" else variables.get(match[1], match[0]), text)
