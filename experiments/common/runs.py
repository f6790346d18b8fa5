"""Configuration files of `perpend train`, and running the program until a time is over, so that the next call goes on."""

import json
import pathlib
import signal
import subprocess
import time


LONGEST_WAIT = 1e6  # seconds, that the system can wait for


class OutOfTime(Exception):
    """The time is over; what was done so far is kept."""


def toml_text(table: dict, prefix: str = "") -> str:
    """Nested tables, and lists of tables, of texts, numbers and flags. JSON writes those as TOML does."""
    lines, tables = [], []
    for key, value in table.items():
        name = prefix + key
        if isinstance(value, dict):
            tables.append(f"\n[{name}]\n" + toml_text(value, name + "."))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            tables += [f"\n[[{name}]]\n" + toml_text(item) for item in value]
        else:
            lines.append(f"{key} = {json.dumps(value)}\n")
    return "".join(lines + tables)


class Program:
    """`perpend`, for as long as there is time: at `deadline` (of time.monotonic()) it gets what Ctrl-C sends."""

    def __init__(self, path: str, deadline: float):
        self.path = path
        self.deadline = deadline

    def run(self, *arguments: object, log: pathlib.Path) -> list[dict]:
        """The JSON objects that it prints, one a line; its other words go to `log`. Raises RuntimeError with the last of them."""
        printed = log.with_name(log.name + ".out")
        try:
            self.run_to_end(printed, *arguments, log=log)
            return [json.loads(line) for line in printed.read_text().splitlines()]
        finally:
            printed.unlink(missing_ok=True)

    def run_to_end(self, path: pathlib.Path, *arguments: object, log: pathlib.Path) -> None:
        """Writes what it prints to `path`. Raises RuntimeError as run() does."""
        if not self.run_into(path, *arguments, log=log):
            raise OutOfTime

    def run_into(self, path: pathlib.Path, *arguments: object, log: pathlib.Path) -> bool:
        """Writes what it prints to `path`; whether it came to its end before the time was over."""
        if time.monotonic() >= self.deadline:
            raise OutOfTime
        with open(path, "w") as output, open(log, "w") as errors:
            process = subprocess.Popen([self.path, *map(str, arguments)], stdout=output, stderr=errors)
            try:
                process.wait(min(self.deadline - time.monotonic(), LONGEST_WAIT))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
                process.wait()
                return False
            except BaseException:
                process.kill()
                process.wait()
                raise
        if process.returncode != 0:
            command = " ".join([self.path, *map(str, arguments)])
            raise RuntimeError(f"{command}: {log.read_text().strip()[-500:]}")
        return True


def write_json(path: pathlib.Path, value: object) -> None:
    """Whole or not at all."""
    staging = path.with_name(path.name + ".tmp")
    staging.write_text(json.dumps(value, indent=1) + "\n")
    staging.replace(path)
