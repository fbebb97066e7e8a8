r"""A service in a process of its own, and wrk (https://github.com/wg/wrk) beside it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.machine import thread_environment
from genrec_pyg.exceptions import ConfigError

#: Random users, a pause between two requests of a connection in ms, and what wrk measured as JSON.
_SCRIPT = """
local users = {%s}
math.randomseed(%d)
request = function()
  return wrk.format('GET', '/recommend?k=%d&user=' .. users[math.random(#users)])
end
%s
done = function(summary, latency, requests)
  local e = summary.errors
  local out = {}
  local function put(name, value) out[#out + 1] = string.format('"%%s": %%.6f', name, value) end
  for name, share in pairs({p50 = 50, p90 = 90, p99 = 99, p999 = 99.9}) do
    put(name, latency:percentile(share) / 1e3)
  end
  put('max', latency.max / 1e3)
  put('seconds', summary.duration / 1e6)
  local errors = string.format(
    '{"connect": %%d, "read": %%d, "write": %%d, "status": %%d, "timeout": %%d}',
    e.connect, e.read, e.write, e.status, e.timeout)
  io.write(string.format('{"requests": %%d, "errors": %%s, %%s}\\n',
    summary.requests, errors, table.concat(out, ', ')))
end
"""


class Service:
    r"""A service in a process of its own.

    Args:
        folder: Bundle.
        port: Port; 0 takes a free one.
        realtime: Whether it goes before all other work.
    """

    def __init__(self, folder: Path, port: int = 0, realtime: bool = False):
        self.port = port or _free_port()
        begin = time.perf_counter()
        command = [
            sys.executable,
            '-m',
            'genrec_pyg.serve',
            str(folder),
            '--port',
            str(self.port),
            '--poll',
            '0.2',
        ]
        self.process = subprocess.Popen(
            command,
            env=thread_environment(1),
            stderr=subprocess.DEVNULL,
            preexec_fn=_go_first if realtime else None,
        )
        while True:
            with contextlib.suppress(OSError):
                self.get('/health')
                break
            if self.process.poll() is not None:
                raise ConfigError(
                    f'the service ended with code {self.process.returncode}; python -m '
                    f'genrec_pyg.serve says why'
                )
            time.sleep(0.002)
        self.start_seconds = time.perf_counter() - begin
        self.start_cpu_seconds = self.cpu_seconds()

    def get(self, path: str) -> Any:
        r"""Answer to a request."""
        with urllib.request.urlopen(f'http://127.0.0.1:{self.port}{path}', timeout=30) as answer:
            return json.load(answer)

    def cpu_seconds(self) -> float:
        r"""Processor time of the process so far."""
        fields = Path(f'/proc/{self.process.pid}/stat').read_text().rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def memory_mib(self) -> float:
        r"""Resident memory."""
        pages = int(Path(f'/proc/{self.process.pid}/statm').read_text().split()[1])
        return pages * os.sysconf('SC_PAGE_SIZE') / 2**20

    def stop(self, number: int = signal.SIGTERM) -> int:
        r"""Ends it; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


def _go_first() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


def load(
    service: Service,
    users: Sequence[Any],
    k: int,
    connections: int,
    seconds: int,
    realtime: bool = False,
    pause: tuple[int, int] | None = None,
) -> dict[str, Any]:
    r"""Load of wrk on a service: latencies in ms, and lists per second of wall and of processor
    time.

    Args:
        service: The service.
        users: Ids that are asked for.
        k: Items per list.
        connections: Open requests.
        seconds: Length.
        realtime: Whether wrk goes before all other work.
        pause: Fewest and most ms between two requests of a connection.
    """
    names = ', '.join(f"'{urllib.parse.quote(str(raw), safe='')}'" for raw in users)
    delay = (
        ''
        if pause is None
        else f'delay = function() return math.random({pause[0]}, {pause[1]}) end'
    )
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / 'users.lua'
        script.write_text(_SCRIPT % (names, connections, k, delay))
        command = [
            'wrk',
            '-t1',
            f'-c{connections}',
            f'-d{seconds}s',
            '--timeout',
            '10s',
            '-s',
            str(script),
            f'http://127.0.0.1:{service.port}',
        ]
        before, load_average = service.cpu_seconds(), os.getloadavg()[0]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            preexec_fn=_go_first if realtime else None,
        )
    found = json.loads(done.stdout.splitlines()[-1])
    used = service.cpu_seconds() - before
    return {
        'connections': connections,
        'pause': pause,
        **found,
        'per_second': found['requests'] / found['seconds'],
        'per_cpu_second': found['requests'] / used,
        'load_average': load_average,
    }
