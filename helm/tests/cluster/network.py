"""Hosts as network namespaces, with wires to the node, which is the network namespace of this process.

There is no bridge: a pod has its addresses to itself, and its only neighbour is the node. So every packet between two
pods is routed by the node, and kube-proxy sees both directions of it.
"""

import os
import subprocess
from pathlib import Path

NODE = "10.240.0.1"
NODE_V6 = "fd00:240::1"
PODS = "10.244.0.0/16"
PODS_V6 = "fd00:244::/64"
SERVICES = "10.96.0.0/16"
SERVICES_V6 = "fd00:96::/112"
CLIENT = "192.0.2.2"
CLIENT_V6 = "2001:db8:c::2"
# The host of clients; it reaches all other addresses, such as those of balancers, by way of the node.
CLIENTS = "client"

FORWARDING = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"]


def run(*command: str, stdin: str | None = None) -> str:
    """Runs a command that must succeed."""
    result = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr or result.stdout}")
    return result.stdout


def inside(host: str, *command: str) -> list[str]:
    """The command line that runs a command on a host."""
    return ["nsenter", f"--net=/run/netns/{host}", *command]


def set_up() -> None:
    """Gives this namespace the node's addresses, and wires it to the clients' host."""
    # Namespaces of others on this machine may have the same names.
    os.makedirs("/run/netns", exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
    run("sysctl", "-q", "-w", *FORWARDING)
    commands("link set lo up", f"address add {NODE}/32 dev lo", f"address add {NODE_V6}/128 dev lo")
    run("ip", "netns", "add", CLIENTS)
    commands(f"link add clients type veth peer name eth0 netns {CLIENTS}",
             "address add 192.0.2.1/24 dev clients", "address add 2001:db8:c::1/64 dev clients nodad", "link set clients up",
             # kube-proxy rewrites what goes to Services, but only what has a route.
             f"route add {SERVICES} dev clients src {NODE}", f"route add {SERVICES_V6} dev clients src {NODE_V6}")  # fmt: skip
    commands("link set lo up", f"address add {CLIENT}/24 dev eth0", f"address add {CLIENT_V6}/64 dev eth0 nodad", "link set eth0 up",
             "route add default via 192.0.2.1", "route add ::/0 via 2001:db8:c::1", host=CLIENTS)  # fmt: skip


def commands(*lines: str, host: str | None = None) -> None:
    """Runs commands of `ip` in one go, on the node or on a host."""
    ip = ["ip", "-batch", "-"]
    run(*(inside(host, *ip) if host else ip), stdin="\n".join(lines) + "\n")


class PodNetwork:
    """The network namespace of one pod."""

    def __init__(self, number: int) -> None:
        self.name = f"pod{number}"
        self.address = f"10.244.{number >> 8}.{number & 255}"
        self.address_v6 = f"fd00:244::{number:x}"

    def create(self, sysctls: dict[str, str]) -> None:
        """Makes the namespace, its wire and its routes."""
        run("ip", "netns", "add", self.name)
        commands(f"link add {self.name} type veth peer name eth0 netns {self.name}", f"link set {self.name} up", f"address add fe80::1/64 dev {self.name} nodad",
                 f"route add {self.address}/32 dev {self.name} src {NODE}", f"route add {self.address_v6}/128 dev {self.name} src {NODE_V6}")  # fmt: skip
        commands("link set lo up", f"address add {self.address}/32 dev eth0", f"address add {self.address_v6}/128 dev eth0 nodad", "link set eth0 up",
                 f"route add {NODE}/32 dev eth0 scope link", f"route add default via {NODE}", "route add ::/0 via fe80::1 dev eth0", host=self.name)  # fmt: skip
        if sysctls:
            run(*inside(self.name, "sysctl", "-q", "-w", *(f"{name}={value}" for name, value in sysctls.items())))

    def remove(self) -> None:
        """Takes the wire away at once: the kernel removes a namespace only when its last socket is gone."""
        run("ip", "link", "delete", self.name)
        run("ip", "netns", "delete", self.name)

    def exists(self) -> bool:
        """Whether the namespace is there."""
        return Path("/run/netns", self.name).exists()
