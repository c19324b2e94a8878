"""Loopback ports: which are free, and who holds one that is not."""

import random
import socket

import psutil

from shared.contracts.errors import UserError

LOOPBACK = "127.0.0.1"
RANGE = (20000, 32000)  # below Linux' range for outgoing connections, which would take a port between choice and use
_reserved: list[socket.socket] = []


class PortTaken(UserError):
    code = "port_taken"


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection that just closed is no hindrance
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def reserve(port: int) -> bool:
    """Whether no other run has chosen the port. It is this process's until it ends: nobody listens there before its service has
    started, so `is_free` alone would give it to two runs that start together."""
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(
            f"\0meteor-port-{port}"
        )  # an abstract name: of the same network namespace as the port, and without a file
    except OSError:
        mark.close()
        return False
    _reserved.append(mark)
    return True


def pick(taken: set[int]) -> int:
    """A free port that is not in taken; it is reserved, and added there."""
    for _ in range(500):
        port = random.randint(*RANGE)  # noqa: S311
        if port not in taken and is_free(port) and reserve(port):
            taken.add(port)
            return port
    raise UserError("no free port found between 20000 and 32000")


def holder(port: int) -> str:
    """Who listens there, in words: `python (pid 4711)`."""
    for pid in _listeners(port):
        try:
            return f"{psutil.Process(pid).name()} (pid {pid})"
        except psutil.NoSuchProcess:
            continue
    return "a process of another user"


def listens(port: int, pids: set[int]) -> bool:
    """Whether one of these processes listens on the port (and not somebody else's)."""
    return bool(_listeners(port) & pids)


def _listeners(port: int) -> set[int]:
    connections = psutil.net_connections("tcp")
    return {c.pid for c in connections if c.pid and c.status == psutil.CONN_LISTEN and c.laddr and c.laddr[1] == port}


def api_port(wanted: int | None, preferred: int, taken: set[int]) -> tuple[int, str]:
    """(port, remark). wanted: the one explicitly asked for. Raises PortTaken with the holder's name and pid."""
    if wanted is not None:
        if not is_free(wanted):
            raise PortTaken(f"METEOR_API_PORT is {wanted}, but {holder(wanted)} listens there")
        taken.add(wanted)
        return wanted, ""
    if is_free(preferred):
        taken.add(preferred)
        return preferred, ""
    port = pick(taken)
    return port, f"port {preferred} is held by {holder(preferred)}; the api listens on {port}"
