"""The containers of a pod: each a process with a root, a user and a network of its own."""

import http.client
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from api import Object
from network import PodNetwork, run
from volumes import NotThere, Sources, Volumes, environment, expanded

# Where the image has the gateway.
GATEWAY = "/usr/bin/bucketferry"
# Seconds before each further restart, the last ones for all that follow.
BACK_OFF = [0, 1, 2, 4, 8]


def now() -> str:
    """The time as the API writes it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Probe:
    """Asks a container by HTTP, and counts what it hears."""

    def __init__(self, spec: Object, container: Object, address: str, passes_at_first: bool) -> None:
        if "httpGet" not in spec:
            raise NotImplementedError(f"the probe {spec}")
        get = spec["httpGet"]
        ports = {port.get("name"): port["containerPort"] for port in container.get("ports", [])}
        self.spec = spec
        self.port = ports.get(get["port"], get["port"])
        self.path = get.get("path", "/")
        self.address = address
        self.passes = passes_at_first
        self.successes = self.failures = 0
        self.next = time.monotonic() + spec.get("initialDelaySeconds", 0)

    def ask(self) -> None:
        """Asks when it is time to."""
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + self.spec.get("periodSeconds", 10)
        if self.succeeds():
            self.successes, self.failures = self.successes + 1, 0
        else:
            self.successes, self.failures = 0, self.failures + 1
        if self.successes >= self.spec.get("successThreshold", 1):
            self.passes = True
        if self.failures >= self.spec.get("failureThreshold", 3):
            self.passes = False

    def has_failed(self) -> bool:
        """Whether it failed so often in a row that it counts."""
        return self.failures >= self.spec.get("failureThreshold", 3)

    def succeeds(self) -> bool:
        """Whether one question is answered well, and in time."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=self.spec.get("timeoutSeconds", 1))
        try:
            connection.request("GET", self.path, headers={"Connection": "close"})
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Container:
    """A container of a pod, through all its restarts."""

    def __init__(self, pod: Object, spec: Object, folder: Path, network: PodNetwork, volumes: Volumes, sources: Sources) -> None:
        self.pod = pod
        self.spec = spec
        self.name: str = spec["name"]
        self.folder = folder / self.name
        self.network = network
        self.volumes = volumes
        self.sources = sources
        self.process: subprocess.Popen[bytes] | None = None
        self.probes: dict[str, Probe] = {}
        self.restarts = -1
        self.exit_code: int | None = None
        self.state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Object = {}
        self.may_start = 0.0
        self.kill_at: float | None = None

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self.process is not None

    @property
    def has_started(self) -> bool:
        """Whether it runs, and its startup probe has passed."""
        return self.is_running and ("startupProbe" not in self.probes or self.probes["startupProbe"].passes)

    @property
    def is_ready(self) -> bool:
        """Whether it has started, and its readiness probe passes."""
        return self.has_started and ("readinessProbe" not in self.probes or self.probes["readinessProbe"].passes)

    @property
    def log(self) -> Path:
        """The log of its latest start."""
        return self.log_of(max(self.restarts, 0))

    def log_of(self, restart: int) -> Path:
        """The log of one of its starts."""
        return self.folder.parent / f"{self.name}.{restart}.log"

    def start(self) -> None:
        """Starts it (again), in a root that is new each time."""
        variables = environment(self.pod, self.spec, self.sources, self.network)
        command = self.command(variables)
        user = self.user()
        root = self.make_root()
        self.restarts += 1
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.network.name}", f"--root={root}", f"--wd={root}", *user, *command],
                env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.kill_at = None
        self.state = {"running": {"startedAt": now()}}
        self.probes = {
            kind: Probe(self.spec[kind], self.spec, self.network.address, kind == "livenessProbe")
            for kind in ("startupProbe", "livenessProbe", "readinessProbe") if self.spec.get(kind)
        }  # fmt: skip

    def command(self, variables: dict[str, str]) -> list[str]:
        """What it runs: the image's program is the gateway, unless the pod names another."""
        return [expanded(part, variables) for part in [*self.spec.get("command", [GATEWAY]), *self.spec.get("args", [])]]

    def user(self) -> list[str]:
        """The command line that gives up all rights but those of the security context."""
        of_pod = self.pod["spec"].get("securityContext", {})
        context = of_pod | self.spec.get("securityContext", {})
        user, group = context.get("runAsUser", 0), context.get("runAsGroup", 0)
        if user == 0 and context.get("runAsNonRoot"):
            raise NotThere("container has runAsNonRoot and image will run as root")
        groups = sorted({group, *of_pod.get("supplementalGroups", []), *([of_pod["fsGroup"]] if "fsGroup" in of_pod else [])})
        return ["setpriv", "--reuid", str(user), "--regid", str(group), "--groups", ",".join(map(str, groups)), "--inh-caps=-all", "--bounding-set=-all",
                *([] if context.get("allowPrivilegeEscalation", True) else ["--no-new-privs"])]  # fmt: skip

    def make_root(self) -> Path:
        """A root over that of this machine, with the volumes in their places."""
        self.remove_root()
        upper, work, root = (self.folder / part for part in ("upper", "work", "root"))
        for part in (upper, work, root):
            part.mkdir(parents=True)
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", str(root))
        binds = [(Path("/proc"), "/proc", False), (Path("/dev"), "/dev", False), (self.folder.parent / "hosts", "/etc/hosts", True),
                 (Path("/dev/null"), "/etc/resolv.conf", True), (Path(os.environ["BUCKETFERRY_BIN"]), GATEWAY, True)]  # fmt: skip
        for mount in self.spec.get("volumeMounts", []):
            source = self.volumes.path(mount["name"]) / mount.get("subPath", "")
            binds.append((source, mount["mountPath"], mount.get("readOnly", False)))
        for source, target, is_read_only in binds:
            bind(source, in_root(root, target), is_read_only)
        if self.spec.get("securityContext", {}).get("readOnlyRootFilesystem"):
            run("mount", "-o", "remount,ro", str(root))
        return root

    def remove_root(self) -> None:
        """Takes the root away."""
        if self.folder.exists():
            subprocess.run(["umount", "--recursive", "--lazy", self.folder / "root"], capture_output=True, check=False)
            shutil.rmtree(self.folder)

    def look(self) -> None:
        """Notices that its process has ended, and asks its probes."""
        if self.process is None:
            return
        if (status := self.process.poll()) is not None:
            self.end(status)
            return
        if self.kill_at is not None and time.monotonic() >= self.kill_at:
            self.kill()
        if (startup := self.probes.get("startupProbe")) and not startup.passes:
            startup.ask()
            return
        if readiness := self.probes.get("readinessProbe"):
            readiness.ask()

    def look_at_life(self) -> None:
        """Ends a container that does not start, or does not live, so that it is restarted."""
        if not self.is_running or self.kill_at is not None:
            return
        probe = self.probes.get("livenessProbe" if self.has_started else "startupProbe")
        if probe and self.has_started:
            probe.ask()
        if probe and probe.has_failed():
            self.terminate(self.pod["spec"].get("terminationGracePeriodSeconds", 30))

    def end(self, status: int) -> None:
        """Notes how it ended."""
        self.signal(signal.SIGKILL)
        self.process = None
        self.exit_code = status if status >= 0 else 128 - status
        started = self.state["running"]["startedAt"]
        terminated = {"exitCode": self.exit_code, "reason": "Completed" if self.exit_code == 0 else "Error", "startedAt": started, "finishedAt": now()}
        self.state = self.last_state = {"terminated": terminated}
        self.may_start = time.monotonic() + BACK_OFF[min(self.restarts, len(BACK_OFF) - 1)]

    def restart(self) -> None:
        """Starts it again when its wait is over."""
        if time.monotonic() >= self.may_start:
            self.start()
        else:
            self.state = {"waiting": {"reason": "CrashLoopBackOff"}}

    def terminate(self, seconds: float) -> None:
        """SIGTERM, and later SIGKILL."""
        self.kill_at = time.monotonic() + seconds
        if self.process:
            os.kill(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """A signal to all processes that it has started."""
        # A test may kill it at the moment when its end is noticed.
        if process := self.process:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def status(self) -> Object:
        """What the API is told of it."""
        return {
            "name": self.name, "image": self.spec["image"], "imageID": self.spec["image"],
            "containerID": f"process://{self.folder.parent.name}-{self.name}-{self.restarts}",
            "state": self.state, "lastState": self.last_state if "terminated" not in self.state else {},
            "ready": self.is_ready, "started": self.has_started, "restartCount": max(self.restarts, 0),
        }  # fmt: skip


def in_root(root: Path, target: str) -> Path:
    """Where a path of a container is on the node; its links lead to places within the root."""
    reached = root
    for part in Path(target).relative_to("/").parts:
        reached /= part
        if reached.is_symlink():
            reached = in_root(root, str("/" / reached.parent.relative_to(root) / os.readlink(reached)))
    return reached


def bind(source: Path, target: Path, is_read_only: bool) -> None:
    """Mounts a file or folder of the node."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    run("mount", "--bind", str(source), str(target))
    if is_read_only:
        run("mount", "-o", "remount,bind,ro", str(target))
