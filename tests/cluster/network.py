"""Each node in namespaces of its own: a network without a way out, host name, processes.

A node reaches the controller's address and the other node's, by two host routes; there is no
other route. The kernel refuses whatever else a process tries ("network is unreachable") and counts
it: OutNoRoutes in /proc/net/snmp, Ip6OutNoRoutes in /proc/net/snmp6. A name server that lies
behind no route makes a question to the DNS one of them.
"""

import os
import shutil
import subprocess
from pathlib import Path

NODES = ("n1", "n2")
#: From the block for tests of network devices (RFC 2544): on no real network.
CONTROLLER = "198.18.77.1"
ADDRESS = {"n1": "198.18.77.11", "n2": "198.18.77.12"}
#: From a block for documentation (RFC 5737): nobody answers there.
NAME_SERVER = "203.0.113.53"
_BRIDGE = "xstilts0"


def build() -> bool:
    """Build the network of both nodes; False where the machine does not permit it."""
    tools = ("ip", "nsenter", "unshare", "mount")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)):
        return False
    remove()  # what a crash left
    try:
        _run("unshare --net --mount --uts --pid --fork --mount-proc true")
        _run(f"ip link add {_BRIDGE} type bridge")
        _run(f"ip address add {CONTROLLER}/24 dev {_BRIDGE}")
        _run(f"ip link set {_BRIDGE} up")
        for node in NODES:
            _join(node)
    except subprocess.CalledProcessError:
        remove()
        return False
    return True


def _join(node: str) -> None:
    """A namespace, a cable from it to the bridge, and two routes."""
    _run(f"ip netns add {_name(node)}")
    _run(f"ip link add {_name(node)} type veth peer name eth0 netns {_name(node)}")
    _run(f"ip link set {_name(node)} master {_BRIDGE} up")
    inside = f"ip -n {_name(node)}"
    _run(f"{inside} link set lo up")
    _run(f"{inside} link set eth0 up")
    _run(f"{inside} address add {ADDRESS[node]}/32 dev eth0")
    for reached in (CONTROLLER, *(ADDRESS[other] for other in NODES if other != node)):
        _run(f"{inside} route add {reached}/32 dev eth0")


def plug(node: str) -> None:
    """Undo `unplug`."""
    _run(f"ip route delete unreachable {ADDRESS[node]}", check=False)


def unplug(node: str) -> None:
    """Make the controller learn at once that nobody is at the node's address.

    A port that refuses, or a silence, it tries ten times (some 12 s), as it may be a restart.
    """
    plug(node)
    _run(f"ip route add unreachable {ADDRESS[node]}")


def remove() -> None:
    """Take the network away, and whatever still runs in it."""
    for node in NODES:
        plug(node)
        if isolated(node):
            pids = subprocess.run(
                ["ip", "netns", "pids", _name(node)], capture_output=True, text=True, check=False
            )
            for pid in pids.stdout.split():
                subprocess.run(["kill", "-KILL", pid], check=False, capture_output=True)
            _run(f"ip netns delete {_name(node)}")
        _run(f"ip link delete {_name(node)}", check=False)
    _run(f"ip link delete {_BRIDGE}", check=False)


def isolated(node: str) -> bool:
    """Whether the node has a network namespace of its own."""
    return Path("/run/netns", _name(node)).exists()


def inside(node: str, folder: Path, command: list[str]) -> list[str]:
    """The command that runs `command` as the node: killed as a whole when its process is killed.

    The node has its own hosts file and name server; mounts made later under a shared mount
    point are seen in it.
    """
    hosts = [f"{ADDRESS[each]} {each}" for each in NODES]
    (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))
    (folder / "resolv.conf").write_text(f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n")
    # The shell is the node's first process: it adopts and reaps orphans, as init does.
    script = (
        f'hostname {node} && mount --bind "$0/hosts" /etc/hosts &&'
        ' { [ ! -e /etc/resolv.conf ] || mount --bind "$0/resolv.conf" /etc/resolv.conf; } &&'
        ' { "$@" & wait; }'
    )
    own = "unshare --mount --propagation slave --uts --pid --fork --kill-child --mount-proc"
    enter = ["nsenter", f"--net=/run/netns/{_name(node)}"]
    return [*enter, *own.split(), "sh", "-c", script, str(folder), *command]


def refused(node: str) -> int:
    """How often the kernel refused to send from the node, for want of a route, since it began."""
    text = subprocess.run(
        ["nsenter", f"--net=/run/netns/{_name(node)}", "cat", "/proc/net/snmp", "/proc/net/snmp6"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names, values = (line.split() for line in text.splitlines() if line.startswith("Ip:"))
    six = [line.split()[1] for line in text.splitlines() if line.startswith("Ip6OutNoRoutes")]
    return int(values[names.index("OutNoRoutes")]) + sum(map(int, six))


def _name(node: str) -> str:
    return f"xstilts-{node}"


def _run(command: str, check: bool = True) -> None:
    subprocess.run(command.split(), check=check, capture_output=True)
