"""What the kernel says of processes."""

import contextlib
import os
import time
from pathlib import Path


def family(pid):
    """A process and what it started."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            pids += family(int(child))
    return pids


def cpu(pids):
    """CPU time so far, of ended threads too, in seconds: each process has a
    clock of its own (clock_getcpuclockid(3)), exact to the nanosecond."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def ticks(pids):
    """The same in the program's own code and in the kernel, in ticks."""
    own = kernel = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        own += int(fields[11])
        kernel += int(fields[12])
    return own, kernel


def rss(pids):
    """Resident memory in KiB; what processes share counts for each of them."""
    return sum(status(pid, "VmRSS") for pid in pids)


def threads(pids):
    return sum(status(pid, "Threads") for pid in pids)


def status(pid, name):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise KeyError(name)


class Cores:
    """Which cores servers run on and which the load."""

    def __init__(self, shared=False):
        every = sorted(os.sched_getaffinity(0))
        half = len(every) // 2
        self.all = every
        self.server = every if shared or not half else every[:half]
        self.load = every if shared or not half else every[half:]


@contextlib.contextmanager
def on(cores):
    """What is started meanwhile runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def machine():
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            model = line.split(":", 1)[1].strip()
            break
    date = time.strftime("%-d %B %Y")
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} cores, Linux {os.uname().release}, {date}; "
        f"load average at the start {load:.2f}"
    )
