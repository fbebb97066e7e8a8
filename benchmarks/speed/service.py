r"""Start, latency, throughput and endurance of the service, under wrk (https://github.com/wg/wrk)
on the loopback.

.. code-block:: console

    python -m genrec_pyg.export runs/GenRec-lfm2k-seed0 --output bundle
    python -m benchmarks.speed.service bundle --seconds 15 --soak 600

A list is one request ``GET /recommend`` for a random user, known items left out. Beside wall time,
which other work on the machine lengthens, stands what the process itself used: lists per second of
processor time are what one core can make.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.flags import positive
from benchmarks.common.machine import machine, machine_line
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from benchmarks.speed.service_load import Service, load
from genrec_pyg.exceptions import ConfigError, GenRecError
from genrec_pyg.serving.bundle import read_bundle

logger = logging.getLogger('service')

#: Fewest and most ms between two requests of a connection where latency is measured: under full
#: load it is the length of the queue, and wrk counts a stall for all that it would have sent
#: meanwhile.
PAUSE = (4, 12)
#: The same under steady load.
STEADY = (10, 30)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    r"""The command line."""
    parser = argparse.ArgumentParser(description='Measures the service under load.')
    parser.add_argument('bundle', type=Path, help='folder written by python -m genrec_pyg.export')
    parser.add_argument('--k', type=positive, default=20, help='items per list')
    parser.add_argument('--starts', type=positive, default=5, help='measured starts')
    parser.add_argument(
        '--connections',
        type=positive,
        nargs='+',
        default=[1, 8, 32],
        help='requests that are open at a time',
    )
    parser.add_argument('--seconds', type=positive, default=15, help='length of each load')
    parser.add_argument(
        '--soak',
        type=int,
        default=0,
        help='seconds of steady load with a new bundle every ten; 0 is none',
    )
    parser.add_argument(
        '--kills',
        type=int,
        default=3,
        help='times that the service is killed and restarted under load',
    )
    parser.add_argument(
        '--realtime',
        action='store_true',
        help='service and load go before all other work of the machine (SCHED_FIFO, needs the '
        'right to), but for the steady load: what an idle machine would show',
    )
    parser.add_argument(
        '--output',
        type=Path,
        help='report without ending, default benchmarks/results/service-MODEL-DATASET',
    )
    return parser.parse_args(arguments)


@contextlib.contextmanager
def changing(folder: Path, seconds: float) -> Iterator[list[float]]:
    r"""Puts another manifest of the same tables in the place of that of a bundle every ``seconds``;
    yields the times.
    """
    times: list[float] = []
    end = threading.Event()
    path = folder / 'manifest.json'

    def change() -> None:
        while not end.wait(seconds):
            document = json.loads(path.read_text())
            document['changed'] = len(times)
            (folder / '.writing').write_text(json.dumps(document))
            os.replace(folder / '.writing', path)
            times.append(time.time())

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield times
    finally:
        end.set()
        thread.join()


def killed(
    folder: Path, users: Sequence[Any], k: int, times: int, realtime: bool
) -> dict[str, Any]:
    r"""Kills the service under load and starts it again on its port; clients try again until they
    have an answer.

    Returns:
        Answers, requests that had to be made again, wrong answers, and seconds between two answers
        around each kill.
    """
    service = Service(folder, realtime=realtime)
    expected = {
        str(raw): service.get(f'/recommend?k={k}&user={urllib.parse.quote(str(raw))}')['lists']
        for raw in users
    }
    end, lock = threading.Event(), threading.Lock()
    counts = {'answers': 0, 'again': 0, 'wrong': 0}
    answered = [time.perf_counter()]

    def ask(number: int) -> None:
        place = number
        while not end.is_set():
            place += 1
            raw = str(users[place % len(users)])
            while not end.is_set():
                try:
                    lists = service.get(f'/recommend?k={k}&user={urllib.parse.quote(raw)}')['lists']
                except (OSError, ValueError):
                    with lock:
                        counts['again'] += 1
                    time.sleep(0.01)
                    continue
                with lock:
                    counts['answers'] += 1
                    counts['wrong'] += lists != expected[raw]
                    answered.append(time.perf_counter())
                break

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for client in clients:
        client.start()
    gaps = []
    for _ in range(times):
        time.sleep(1)
        begin = time.perf_counter()
        service.stop(signal.SIGKILL)
        service = Service(folder, service.port, realtime)
        time.sleep(0.5)
        with lock:
            after = [moment for moment in answered if moment > begin + 0.2]
        gaps.append(min(after, default=time.perf_counter()) - begin)
    end.set()
    for client in clients:
        client.join()
    service.stop()
    return {**counts, 'kills': times, 'seconds_without': gaps}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    r"""All figures of a bundle."""
    bundle = read_bundle(args.bundle)
    users = bundle.users[:5000]
    with tempfile.TemporaryDirectory() as place:
        folder = shutil.copytree(args.bundle, Path(place) / 'bundle')
        starts = []
        for _ in range(args.starts):
            service = Service(folder, realtime=args.realtime)
            starts.append((service.start_seconds, service.start_cpu_seconds))
            service.stop()
        service = Service(folder, realtime=args.realtime)
        rows = [
            load(service, users, args.k, connections, args.seconds, args.realtime, pause)
            for pause in (None, PAUSE, STEADY)
            for connections in args.connections
            if pause is None or connections > 1
        ]
        memory, soak = service.memory_mib(), None
        code = service.stop()
        if args.soak > 0:
            service = Service(folder)
            with changing(folder, 10) as changes:
                soak = load(service, users, args.k, 8, args.soak, pause=STEADY)
            soak.update(changes=len(changes), memory_mib=service.memory_mib(), code=service.stop())
        kills = (
            killed(folder, users[:200], args.k, args.kills, args.realtime)
            if args.kills > 0
            else None
        )
    return {
        'name': f'{bundle.manifest["model"]}-{Path(str(bundle.manifest["dataset"])).stem}',
        'k': args.k,
        'num_users': len(bundle.users),
        'num_items': len(bundle.items),
        'realtime': args.realtime,
        'tables_mib': bundle.manifest['files']['tables']['bytes'] / 2**20,
        'memory_mib': memory,
        'code': code,
        'start_seconds': statistics.median(wall for wall, _ in starts),
        'start_seconds_max': max(wall for wall, _ in starts),
        'start_cpu_seconds': statistics.median(cpu for _, cpu in starts),
        'starts': args.starts,
        'rows': rows,
        'soak': soak,
        'kills': kills,
    }


def render(document: dict[str, Any]) -> str:
    r"""The report as Markdown."""
    header = [
        'connections',
        'pauses [ms]',
        'lists per second',
        'lists per second of its core',
        'p50 [ms]',
        'p99 [ms]',
        'p99.9 [ms]',
        'max [ms]',
        'errors',
        'load average',
    ]
    realtime = ', both before all its other work (SCHED_FIFO)' if document['realtime'] else ''
    rows = [
        [
            row['connections'],
            '{}-{}'.format(*row['pause']) if row['pause'] else 'none',
            f'{row["per_second"]:.0f}',
            f'{row["per_cpu_second"]:.0f}',
            *(f'{row[name]:.2f}' for name in ('p50', 'p99', 'p999', 'max')),
            sum(row['errors'].values()),
            f'{row["load_average"]:.1f}',
        ]
        for row in document['rows']
    ]
    parts = [
        f'# Service on {document["name"]}',
        markdown_table(header, rows),
        f'Lists of {document["k"]} for random ones of {document["num_users"]} users over '
        f'{document["num_items"]} items, exact, known items left out, one request each; service '
        f'and wrk on one machine{realtime}. Lists per second of its core are lists divided by the '
        f'processor time of the service.',
        f'Start to the first answer: median {document["start_seconds"]:.2f} s, longest '
        f'{document["start_seconds_max"]:.2f} s of {document["starts"]}, '
        f'{document["start_cpu_seconds"]:.2f} s of processor time. Tables '
        f'{document["tables_mib"]:.1f} MiB, process {document["memory_mib"]:.0f} MiB.',
    ]
    soak, kills = document['soak'], document['kills']
    if soak is not None:
        parts.append(
            f'Steady load of 8 connections with pauses of {STEADY[0]} to {STEADY[1]} ms for '
            f'{soak["seconds"]:.0f} s at normal priority: {soak["requests"]} lists, '
            f'{sum(soak["errors"].values())} errors, {soak["changes"]} changes of the bundle, p50 '
            f'{soak["p50"]:.2f} ms, p99 {soak["p99"]:.2f} ms, load average '
            f'{soak["load_average"]:.1f}; memory at the end {soak["memory_mib"]:.0f} MiB, exit '
            f'code {soak["code"]}.'
        )
    if kills is not None:
        parts.append(
            f'Killed (SIGKILL) and restarted {kills["kills"]} times under load of 8 clients that '
            f'try again: {kills["answers"]} answers, {kills["wrong"]} wrong, {kills["again"]} '
            f'attempts repeated, at most {max(kills["seconds_without"]):.2f} s without an answer.'
        )
    return '\n\n'.join([*parts, machine_line(document['machine'])]) + '\n'


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Entry point: 0 on success, 1 on failure, 2 on bad usage."""
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    try:
        if shutil.which('wrk') is None:
            raise ConfigError(
                'wrk is not installed: apt-get install wrk, or https://github.com/wg/wrk'
            )
        document = {**measure(args), 'machine': machine(1)}
    except GenRecError as error:
        logger.error('error: %s', error)
        return 2 if isinstance(error, ConfigError) else 1
    markdown = render(document)
    write_report(args.output or RESULTS / f'service-{document["name"]}', document, markdown)
    logger.info('\n%s', markdown)
    return 0


if __name__ == '__main__':
    sys.exit(main())
