"""A program behind a pseudo-terminal, as a person at a keyboard has it."""

import os
import pty
import re
import select
import signal
import termios
import time


class Terminal:
    def __init__(self, arguments: list[str], environment: dict[str, str], seconds: float = 60):
        self.deadline = time.monotonic() + seconds
        self.output = ""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execve(arguments[0], arguments, environment)
        attributes = termios.tcgetattr(self.master)
        attributes[3] &= ~termios.ECHO  # only what the program writes
        termios.tcsetattr(self.master, termios.TCSANOW, attributes)

    def send(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def read(self) -> str:
        """What comes next; nothing when the program is gone."""
        remaining = max(0, self.deadline - time.monotonic())
        if not select.select([self.master], [], [], remaining)[0]:
            raise TimeoutError(f"nothing came after {self.output!r}")
        try:
            return os.read(self.master, 65536).decode(errors="replace")
        except OSError:  # how Linux reports the end of a terminal
            return ""

    def expect(self, pattern: str) -> str:
        """Reads until `pattern` occurs in what was not yet taken; takes and returns all up to its end."""
        while not (found := re.search(pattern, self.output)):
            more = self.read()
            if not more:
                raise EOFError(f"the program ended; expected {pattern!r} in {self.output!r}")
            self.output += more
        taken, self.output = self.output[: found.end()], self.output[found.end() :]
        return taken.replace("\r\n", "\n")

    def wait_until_caught(self, number: signal.Signals) -> None:
        """Waits until the program handles a signal itself."""
        while time.monotonic() < self.deadline:
            with open(f"/proc/{self.pid}/status") as status:
                caught = int(re.search(r"SigCgt:\s*(\w+)", status.read())[1], 16)
            if caught >> (number - 1) & 1:
                return
            time.sleep(0.005)
        raise TimeoutError(f"{number} is not handled")

    def close(self) -> int:
        """Waits for the end; the exit code, or minus the signal that ended it."""
        while self.read():
            pass
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)
