"""Untrusted Python in a process that has no network, no files but its own, and limits: for graders that users write, and for
code that a model wrote and tests try.

It is off until the operator turns it on (METEOR_SANDBOX), and refuses where the kernel cannot confine (confine.py).
"""

import json
import shutil
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from shared.contracts.errors import FatalError, UserError
from shared.platform.line_process import LineProcess, ProcessEnded, TooLong, TooSlow
from shared.sandbox.confine import missing

INSIDE = Path(__file__).with_name("inside.py")
START_S = 30.0


@dataclass(frozen=True)
class SandboxLimits:
    """seconds: of one call, by the clock. cpu_seconds: of the whole process. memory, file_bytes, answer_bytes in bytes."""

    seconds: float = 5.0
    cpu_seconds: int = 600
    memory: int = 512 * 2**20
    file_bytes: int = 10 * 2**20
    answer_bytes: int = 1_000_000


class CallFailed(Exception):
    """A call gave no result: it raised, took too long, needed too much, or ended the process. The message says which. why: slow,
    or crash, where it was stopped."""

    def __init__(self, words: str, why: str = ""):
        super().__init__(words)
        self.why = why


class Sandbox:
    """Runs one source in a confined process, which is started at the first call and again after one that it did not survive.

    allowed: the operator has turned the sandbox on.
    """

    def __init__(self, source: str, allowed: bool, limits: SandboxLimits | None = None):
        if not allowed:
            raise UserError(
                "code of users and models is run only where the operator allows it: METEOR_SANDBOX=true, on a machine for that",
                code="sandbox_off",
            )
        if lacks := missing():
            raise UserError(f"code cannot be confined on this machine: it lacks {', '.join(lacks)}", code="sandbox_off")
        self.source, self.limits = source, limits or SandboxLimits()
        self._child: LineProcess | None = None
        self._own: str | None = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def call(self, function: str, *arguments: Any) -> Any:
        """The result of a function of the source. Arguments and result are JSON values. Raises CallFailed."""
        return self._ask({"function": function, "arguments": list(arguments)})

    def run(self, **values: Any) -> None:
        """Run the source with these names. Raises CallFailed where it raises or does not end."""
        self._ask({"values": values})

    def close(self) -> None:
        """Kill the process and remove what it wrote."""
        if self._child is not None:
            self._child.end()
            self._child = None
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
            self._own = None

    def _ask(self, call: dict[str, Any]) -> Any:
        child = self._child or self._start()
        answer = self._exchange(child, call, self.limits.seconds)
        if "error" in answer:
            raise CallFailed(answer["error"])
        return answer.get("result")

    def _start(self) -> LineProcess:
        self._own = tempfile.mkdtemp(prefix="meteor-sandbox-")
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        child = self._child = LineProcess([sys.executable, "-I", "-B", str(INSIDE)], threads, self._own, quiet=True)
        begin = {
            "source": self.source,
            "own": self._own,
            "readable": _readable(),
            "memory": self.limits.memory,
            "seconds": self.limits.cpu_seconds,
            "file_bytes": self.limits.file_bytes,
        }
        try:
            answer = self._exchange(child, begin, START_S)
        except CallFailed as error:
            raise FatalError(f"the sandbox did not start: {error}", code="sandbox_failed") from None
        if "error" in answer:
            self.close()
            raise CallFailed(answer["error"])
        return child

    def _exchange(self, child: LineProcess, line: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Raises CallFailed, and the process is gone then."""
        try:
            answer = json.loads(child.ask(json.dumps(line), seconds, self.limits.answer_bytes))
        except (ProcessEnded, ValueError):
            failed = CallFailed("it ended its process", "crash")
        except TooSlow:
            failed = CallFailed(f"it took more than {seconds:g} s", "slow")
        except TooLong:
            failed = CallFailed(f"its result is larger than {self.limits.answer_bytes} bytes", "crash")
        else:
            return answer if isinstance(answer, dict) else {}
        self.close()
        raise failed


def _readable() -> list[str]:
    """What Python itself needs: its library and packages, the system's shared libraries, the time zones."""
    paths = sysconfig.get_paths()
    own = {paths["stdlib"], paths["platstdlib"], sys.base_prefix + "/lib", paths["purelib"], paths["platlib"]}
    system = {
        "/lib",
        "/lib64",
        "/usr/lib",
        "/usr/lib64",
        "/etc/ld.so.cache",
        "/usr/share/zoneinfo",
        "/dev/null",
        "/dev/urandom",
    }
    return sorted(own | system)
