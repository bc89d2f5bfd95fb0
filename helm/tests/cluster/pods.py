"""The life of one pod: from its volumes to its end, told to the API whenever something changes."""

import http.client
import threading
import time
from pathlib import Path

from api import Api, ApiError, Object
from containers import Container, now
from network import NODE, NODE_V6, PodNetwork
from volumes import NotThere, Sources, Volumes

# How often a pod is looked at.
TICK = 0.1
# How often volumes are brought up to date, and what has failed is tried again.
REFRESH = 0.5
AWAY = (OSError, http.client.HTTPException, ApiError)


class Pod:
    """A pod on the node, in a thread of its own."""

    def __init__(self, api: Api, pod: Object, network: PodNetwork, folder: Path, claims: Path, sources: Sources) -> None:
        self.api = api
        self.object = pod
        self.namespace, self.name, self.uid = (pod["metadata"][field] for field in ("namespace", "name", "uid"))
        self.network = network
        self.folder = folder
        self.volumes = Volumes(pod, folder / "volumes", claims, sources)
        self.init_containers = [self.container(spec, sources) for spec in pod["spec"].get("initContainers", [])]
        self.containers = [self.container(spec, sources) for spec in pod["spec"]["containers"]]
        self.is_gone = threading.Event()
        self.is_stopped = False
        self.started_at = now()
        self.has_volumes = False
        self.refresh_at = 0.0
        self.problem = ""
        self.terminate_at: dict[str, float] = {}
        self.kill_at: float | None = None
        self.conditions: dict[str, Object] = {}
        self.reported: Object = {}
        self.report_at = 0.0

    def container(self, spec: Object, sources: Sources) -> Container:
        """One of its containers."""
        return Container(self.object, spec, self.folder, self.network, self.volumes, sources)

    def start(self) -> None:
        """Begins its life."""
        threading.Thread(target=self.live, name=f"{self.namespace}/{self.name}", daemon=True).start()

    def stop(self) -> None:
        """Ends it at once, and tells nobody."""
        self.is_stopped = True
        self.is_gone.wait(10)

    def set_hosts(self, text: str) -> None:
        """Sets /etc/hosts, in place: it is mounted as a file."""
        hosts = self.folder / "hosts"
        if hosts.exists():
            with hosts.open("r+b") as file:
                file.write(text.encode())
                file.truncate()
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            hosts.write_text(text)

    def live(self) -> None:
        """Everything, from the network to the last report."""
        try:
            self.work()
            self.leave()
        finally:
            self.is_gone.set()

    def work(self) -> None:
        """Runs its containers until none runs any more."""
        sysctls = self.object["spec"].get("securityContext", {}).get("sysctls", [])
        try:
            self.network.create({sysctl["name"]: sysctl["value"] for sysctl in sysctls})
            while not self.is_stopped and not self.has_ended():
                self.step()
                self.report()
                time.sleep(TICK)
        finally:
            self.tear_down()

    def leave(self) -> None:
        """Stays until it may be deleted, and deletes it."""
        while not self.is_stopped:
            self.report()
            try:
                if self.is_terminating():
                    if self.reported == self.status():
                        self.api.delete("pods", self.namespace, self.name, gracePeriodSeconds=0, preconditions={"uid": self.uid})
                        return
            except AWAY as error:
                if isinstance(error, ApiError) and error.code == 409:
                    return
            time.sleep(TICK)

    def all_containers(self) -> list[Container]:
        """All containers, in the order in which they start."""
        return self.init_containers + self.containers

    def is_terminating(self) -> bool:
        """Whether it is to end."""
        return "deletionTimestamp" in self.object["metadata"]

    def has_ended(self) -> bool:
        """Whether none of its processes runs, and none will."""
        if any(container.is_running for container in self.all_containers()):
            return False
        return self.is_terminating() or self.phase() in ("Succeeded", "Failed")

    def step(self) -> None:
        """Does what is to be done now."""
        for container in self.all_containers():
            container.look()
        if self.is_terminating():
            self.terminate()
            return
        if time.monotonic() >= self.refresh_at:
            self.refresh()
        if self.has_volumes:
            self.run_containers()

    def refresh(self) -> None:
        """Brings the volumes up to date; what is missing is waited for."""
        self.refresh_at = time.monotonic() + REFRESH
        try:
            self.volumes.refresh(self.network)
            self.has_volumes, self.problem = True, ""
        except (NotThere, *AWAY) as problem:
            self.problem = str(problem)

    def run_containers(self) -> None:
        """Starts containers that wait, and restarts those that should run."""
        try:
            for container in self.init_containers:
                if container.exit_code != 0 or container.is_running:
                    self.keep_up(container, restarts=self.object["spec"]["restartPolicy"] != "Never")
                    return
            for container in self.containers:
                self.keep_up(container, restarts=self.object["spec"]["restartPolicy"] == "Always")
                container.look_at_life()
        except NotThere as problem:
            self.problem = str(problem)

    def keep_up(self, container: Container, restarts: bool) -> None:
        """Starts a container that has not run yet, or has ended and may run again."""
        if container.is_running:
            return
        if container.restarts < 0:
            container.start()
        elif restarts:
            container.restart()

    def terminate(self) -> None:
        """Sleeps as the preStop hook wants it, sends SIGTERM, and SIGKILL when the grace is over, hook included."""
        grace = self.object["metadata"].get("deletionGracePeriodSeconds", 0)
        current = time.monotonic()
        if self.kill_at is None:
            self.kill_at = current + grace
            self.terminate_at = {container.name: current + pre_stop(container.spec) for container in self.all_containers() if container.is_running}
        # A second deletion may give less time.
        self.kill_at = min(self.kill_at, current + grace)
        for container in self.all_containers():
            if container.is_running and container.kill_at is None and current >= self.terminate_at.get(container.name, current):
                container.terminate(self.kill_at - current)
            if current >= self.kill_at:
                container.kill()

    def tear_down(self) -> None:
        """Leaves nothing but the logs."""
        for container in self.all_containers():
            container.kill()
            if container.process:
                container.end(container.process.wait())
            container.remove_root()
        if self.network.exists():
            self.network.remove()

    def phase(self) -> str:
        """The phase that follows from its containers."""
        never = self.object["spec"]["restartPolicy"] == "Never"
        if any(container.restarts < 0 for container in self.containers):
            failed = any(container.exit_code for container in self.init_containers if not container.is_running)
            return "Failed" if never and failed else "Pending"
        if any(container.is_running for container in self.containers) or not (never or self.is_terminating()):
            return "Running"
        return "Failed" if any(container.exit_code for container in self.containers) else "Succeeded"

    def status(self) -> Object:
        """Its status, for the API."""
        phase = self.phase()
        is_initialized = all(container.exit_code == 0 for container in self.init_containers)
        is_ready = phase == "Running" and all(container.is_ready for container in self.containers)
        for name, holds in (("PodScheduled", True), ("Initialized", is_initialized), ("ContainersReady", is_ready), ("Ready", is_ready)):
            self.set_condition(name, holds)
        return {
            "phase": phase, "message": self.problem, "startTime": self.started_at, "conditions": list(self.conditions.values()),
            "hostIP": NODE, "hostIPs": [{"ip": NODE}, {"ip": NODE_V6}],
            "podIP": self.network.address, "podIPs": [{"ip": self.network.address}, {"ip": self.network.address_v6}],
            "initContainerStatuses": [container.status() for container in self.init_containers],
            "containerStatuses": [container.status() for container in self.containers],
        }  # fmt: skip

    def set_condition(self, name: str, holds: bool) -> None:
        """Sets a condition, with the time if it is new."""
        status = str(holds)
        if self.conditions.get(name, {}).get("status") != status:
            self.conditions[name] = {"type": name, "status": status, "lastTransitionTime": now()}

    def report(self) -> None:
        """Tells the API what has changed; again later if it is away."""
        status = self.status()
        if status == self.reported or time.monotonic() < self.report_at:
            return
        try:
            self.api.patch("pods", self.namespace, self.name, {"metadata": {"uid": self.uid}, "status": status}, kind="strategic", sub="status")
            self.reported = status
        except AWAY as error:
            if isinstance(error, ApiError) and error.code in (404, 409):
                self.reported = status
            self.report_at = time.monotonic() + REFRESH


def pre_stop(spec: Object) -> float:
    """How long the preStop hook of a container sleeps."""
    match spec.get("lifecycle", {}).get("preStop"):
        case None:
            return 0
        case {"sleep": {"seconds": seconds}}:
            return seconds
        case other:
            raise NotImplementedError(f"the hook {other}")
