"""A child process under the guard: it and its whole family end with this process, however this process ends."""

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

from shared.platform import process_guard


class GuardedProcess:
    """Started at once, in a session of its own, so that Ctrl-C reaches this process alone. stdout: PIPE or a log file."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        stdout: int | IO[bytes],
        stderr: int | IO[bytes] | None = None,
    ):
        self._process = subprocess.Popen(
            process_guard.command(list(argv)),
            env=env,
            stdin=subprocess.PIPE,  # held open: its end tells the guard that this process has ended
            stdout=stdout,
            stderr=subprocess.STDOUT if stderr is None else stderr,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Of the guard."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; 128 + n when signal n ended the child."""
        return self._process.poll()

    @property
    def stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def terminate(self) -> None:
        """SIGTERM: the child may end cleanly within the guard's GRACE_S, then its family is killed."""
        if self.exit_code is None:
            self._process.terminate()

    def hang_up(self) -> None:
        """Close the pipe: the child gets 2 s only. Also releases the pipe of a process that has ended."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether it has ended within timeout_s."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.returncode is not None

    def end(self, within_s: float) -> None:
        """Terminate, and kill the guard when that takes longer than within_s; the kernel then kills the child."""
        self.terminate()
        if not self.wait(within_s):
            self._process.kill()
            self.wait()
        self.hang_up()
