"""Hosts on one machine: Linux network namespaces, each joined to this process's own by a pair of virtual cables.

This process's namespace has the address of the shared services and forwards what hosts send each other. A host has a
name of its own (a UTS namespace). The namespaces end with the processes in them, so nothing is left on the machine.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SERVICES = "198.18.0.1"  # of a network reserved for benchmarks (RFC 2544)
INSIDE = "METEOR_DRILL_NETWORK"  # set in a process whose network namespace is its own


def missing() -> str | None:
    """Why no namespaces can be made here; None where they can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces exist on Linux only"
    tools = [tool for tool in ("ip", "unshare", "nsenter") if shutil.which(tool) is None]
    if tools:
        return f"the programs {', '.join(tools)} are missing; install iproute2 and util-linux"
    if os.geteuid() != 0:
        return "only root may create network namespaces and cut their links; run it as root, or in a container with --privileged"
    tried = subprocess.run(
        ["unshare", "--net", "--uts", "ip", "link", "set", "lo", "up"], capture_output=True, text=True
    )
    if tried.returncode != 0:
        return f"the kernel refuses a network namespace ({tried.stderr.strip()}); CAP_SYS_ADMIN and CAP_NET_ADMIN are needed"
    return None


def enter(module: str, arguments: Sequence[str]) -> None:
    """Replace this process by itself in a network namespace of its own. Returns only inside of it."""
    if INSIDE not in os.environ:
        argv = ["unshare", "--net", "--", sys.executable, "-m", module, *arguments]
        os.execvpe(argv[0], argv, os.environ | {INSIDE: "1"})


class Network:
    """hosts: names. Use it as a context; its process has to be in a namespace of its own (`enter`)."""

    def __init__(self, hosts: Sequence[str]):
        self.hosts = list(hosts)
        self._keepers: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> "Network":
        if INSIDE not in os.environ:
            raise RuntimeError("this process is in the machine's own network; call enter() first")
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "address", "add", f"{SERVICES}/32", "dev", "lo")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for number, host in enumerate(self.hosts, start=1):
            self._join(host, number)
        return self

    def __exit__(self, *_) -> None:
        for keeper in self._keepers.values():
            keeper.kill()
            keeper.wait()

    def _join(self, host: str, number: int) -> None:
        """A process that holds the namespaces open until this one ends, and the cable to it."""
        script = f"echo {host} > /proc/sys/kernel/hostname; echo ready; read _"
        keeper = subprocess.Popen(
            ["unshare", "--net", "--uts", "--", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._keepers[host] = keeper
        assert keeper.stdout is not None
        if keeper.stdout.readline().strip() != "ready":
            raise RuntimeError(f"the namespace of {host} was not made")
        cable, gateway = self._cable(host), f"198.18.{number}.1"
        _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(keeper.pid))
        _run("ip", "address", "add", f"{gateway}/30", "dev", cable)
        _run("ip", "link", "set", cable, "up")
        for words in (
            ("link", "set", "lo", "up"),
            ("address", "add", f"{self.address(host)}/30", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", gateway),
        ):
            _run(*self.inside(host), "ip", *words)

    def _cable(self, host: str) -> str:
        return f"to-{host}"

    def address(self, host: str) -> str:
        return f"198.18.{self.hosts.index(host) + 1}.2"

    def inside(self, host: str) -> list[str]:
        """What stands before a command that runs on a host."""
        return [
            "nsenter",
            f"--net=/proc/{self._keepers[host].pid}/ns/net",
            f"--uts=/proc/{self._keepers[host].pid}/ns/uts",
            "--",
        ]

    def cut(self, host: str) -> None:
        """From now on the host reaches nobody and nobody reaches it; its processes go on."""
        _run("ip", "link", "set", self._cable(host), "down")

    def heal(self, host: str) -> None:
        _run("ip", "link", "set", self._cable(host), "up")


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
