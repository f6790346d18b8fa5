"""Times of calls that take turns on a GPU, by events, and the clocks of its multiprocessors."""

import dataclasses
import statistics
import time

import torch


@dataclasses.dataclass(frozen=True)
class Turns:
    rounds: int = 5
    calls: int = 9  # of a burst, after one that is not counted
    pause: float = 0.05  # seconds before a burst


@dataclasses.dataclass
class Times:
    milliseconds: list[float] = dataclasses.field(default_factory=list)  # of each call
    clocks: list[float] = dataclasses.field(default_factory=list)  # of a multiprocessor a call, of each burst
    megahertz: list[float] = dataclasses.field(default_factory=list)  # of each burst

    def summary(self) -> dict:
        return {"ms": statistics.median(self.milliseconds), "min_ms": min(self.milliseconds),
                "max_ms": max(self.milliseconds), "mhz": statistics.median(self.megahertz)}


def burst(call, count: int, library, times: Times, each=True) -> None:
    """Adds a burst of `count` calls to `times`: the time of each, or the mean of all."""
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1 if each else 2)]
    call()
    begin = library.clocks()
    events[0].record()
    for i in range(count):
        call()
        if each:
            events[i + 1].record()
    if not each:
        events[1].record()
    end = library.clocks()
    torch.cuda.synchronize()
    total = events[0].elapsed_time(events[-1])
    times.milliseconds.extend(a.elapsed_time(b) / (1 if each else count) for a, b in zip(events, events[1:]))
    clocks = float((end - begin).double().median())
    times.clocks.append(clocks / count)
    times.megahertz.append(clocks / total / 1e3)


def take_turns(calls: dict, library, turns: Turns) -> dict[str, Times]:
    """Rounds of a burst of each call."""
    times = {name: Times() for name in calls}
    for _ in range(turns.rounds):
        for name, call in calls.items():
            time.sleep(turns.pause)
            burst(call, turns.calls, library, times[name])
    return times
