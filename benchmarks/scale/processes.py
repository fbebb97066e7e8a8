r"""Steps of LightGCN and GenRec with their work divided among one, two and four processes.

.. code-block:: console

    # tiktok, 5 M interactions, GenRec on 1 M: table and JSON
    python -m benchmarks.scale.processes --root DATA
    python -m benchmarks.scale.processes --cases lightgcn-tiktok --rounds 1

Every round starts every number of processes once, in turn, so that load of the machine meets all of
them; a process has one thread. Reported are medians over the steps of all rounds: wall time of the
first process, processor time of the slowest, bytes that a process sends in a step, counted and by
the formula, and the largest resident memory of the steps beyond what was loaded (parameters,
gradients, optimizer state, activations). Losses and parameters after the steps are compared with
those of one process. GenRec's generated interactions are five random items per user, since ranking
all items is no part of a step. Gradients are compared after the first step, as shares of the
largest entry of each; Recall@20 on test, where there is one, after all steps. The model of
cost is fitted by one factor per case, from the step of one process, and its predictions for more
stand beside what was measured; those for 100 M users, 20 M items and 1e9 interactions take the
factor of the largest case of the model, 32 steps per epoch and, for GenRec, three modalities of
width 512. Processes that share the cores of a machine slow each other, in wall time above all and,
through memory, in processor time too.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.flags import positive
from benchmarks.common.machine import machine, machine_line, memory_bytes, thread_environment
from benchmarks.common.reports import RESULTS, markdown_table, write_report

#: Model, graph (name of a dataset or users, items, interactions), triples per step.
CASES: dict[str, tuple[str, Any, int]] = {
    'lightgcn-tiktok': ('LightGCN', 'tiktok', 2048),
    'lightgcn-5m': ('LightGCN', (200_000, 100_000, 5_000_000), 65_536),
    'genrec-tiktok': ('GenRec', 'tiktok', 2048),
    'genrec-1m': ('GenRec', (50_000, 25_000, 1_000_000), 16_384),
}
NUMBERS = (1, 2, 4)
#: Sizes that no machine here holds, for the model of cost alone: further fields of a workload by
#: model.
LARGEST: dict[str, dict[str, int]] = {
    'LightGCN': {},
    'GenRec': {'modalities': 3, 'modality_channels': 512, 'generated': 500_000_000},
}
_USERS, _ITEMS, _EDGES = 100_000_000, 20_000_000, 1_000_000_000


def build(case: str, root: str, cache: Path) -> tuple[Any, Any]:
    r"""The model and the data of a case, its graph made once."""
    import torch

    from benchmarks.common.graphs import zipf_graph
    from genrec_pyg.datasets import load_dataset
    from genrec_pyg.nn.diffusion.generator import GeneratedEdges
    from genrec_pyg.nn.models import get_model
    from genrec_pyg.training import seed_everything

    name, graph, _ = CASES[case]
    if isinstance(graph, str):
        data = load_dataset(graph, root)
    else:
        path = cache / f'{case}.pt'
        if not path.exists():
            torch.save(zipf_graph(*graph, channels=None if name == 'GenRec' else {}), path)
        # A HeteroData is more than tensors; the file is of this script, above.
        data = torch.load(path, weights_only=False)
    seed_everything(0)
    options = dict(num_layers=2, l2=1e-3) if name == 'LightGCN' else dict(denoiser={'rank': 64})
    model = get_model(name)(data, **options)
    if name == 'GenRec':
        user = torch.arange(model.num_users).repeat_interleave(5)
        key = torch.unique(user * model.num_items + torch.randint(model.num_items, user.shape))
        edges = torch.stack([key // model.num_items, key % model.num_items])
        model.generator._set_edges(
            GeneratedEdges(edges, torch.rand(key.numel()), torch.ones_like(key, dtype=torch.bool))
        )
    return model, data


def gradients(distributed: Any, model: Any) -> dict[str, Any]:
    r"""Gradients of all parameters of the last step, tables whole, as shares of their largest
    entry; collective.
    """
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for table in getattr(distributed, '_divided', ()):
        found[table.name] = table.block.whole(table.parameter.grad)
    return {name: value / value.abs().max().clamp(min=1e-30) for name, value in found.items()}


def recall(distributed: Any, model: Any, data: Any) -> float | None:
    r"""Recall@20 on test, where the data have one; collective."""
    from genrec_pyg.evaluation import Evaluator
    from genrec_pyg.graph import has_split
    from genrec_pyg.utils.collectives import equal_work

    if not has_split(data, 'test'):
        return None
    processes = distributed.processes
    with distributed.whole_tables(), equal_work(processes):
        return Evaluator(data, 'test', (20,), processes=processes)(model)['recall@20']


def child(case: str, steps: int, root: str, cache: Path, output: Path) -> None:
    r"""One process: trains some steps and writes what it measured."""
    import torch

    from benchmarks.common.machine import prepare
    from genrec_pyg.distributed import traffic
    from genrec_pyg.distributed.cost import exchanged
    from genrec_pyg.training import Trainer, launch
    from genrec_pyg.training.grid import workload

    prepare(1)
    number = int(os.environ.get('WORLD_SIZE', '1'))
    with launch('grid' if number > 1 else None) as distributed:
        model, data = build(case, root, cache)
        batch_size = CASES[case][2]
        work = workload(model, batch_size)
        trainer = Trainer(
            batch_size=batch_size, lr=2e-3, device='cpu', distributed=distributed, progress=False
        )
        optimizer = trainer.make_optimizer(model)
        torch.manual_seed(1)
        begin = time.perf_counter()
        batches = iter(model.make_loader(batch_size, 'edge'))
        batch = next(batches)
        draw = time.perf_counter() - begin
        model.train()
        rest, figures, terms = 0, [], {}
        for step in range(steps + 1):  # the first one warms up
            if step == 1:
                found = gradients(distributed, model)
                if distributed.processes.is_main:
                    torch.save(found, output.with_suffix('.gradients.pt'))
                del found
                rest = forget_peak()
            traffic.reset()
            wall, processor = time.perf_counter(), time.process_time()
            terms = trainer._step(batch, optimizer)
            figures.append((time.perf_counter() - wall, time.process_time() - processor))
            batch = next(batches, batch)
        shape = (
            (distributed.layout.grid.num_node_blocks, distributed.layout.grid.num_channel_blocks)
            if number > 1
            else (1, 1)
        )
        tables = sum(p.numel() * p.element_size() for p in model.parameters())
        result = {
            'figures': figures[1:],
            'draw': draw,
            'memory': memory_bytes()['peak'] - rest + tables,
            'shape': shape,
            'bytes': traffic.num_bytes,
            'formula': exchanged(work, shape)[0],
            'messages': traffic.num_messages,
            'loss': distributed.means(terms),
            'work': vars(work),
            'load': os.getloadavg()[0],
            'edges': model.graph.num_edges,
            'recall': recall(distributed, model, data),
        }
        state = distributed.model_state(model)  # all take part in gathering
        if distributed.processes.is_main:
            torch.save(
                {name: value for name, value in state.items() if torch.is_tensor(value)},
                output.with_suffix('.pt'),
            )
        output.with_name(f'{output.stem}-{distributed.processes.rank}.json').write_text(
            json.dumps(result)
        )


def forget_peak() -> int:
    r"""Gives freed memory back and lets the kernel forget the largest resident memory; returns the
    present one, in bytes.
    """
    gc.collect()
    if platform.libc_ver()[0] == 'glibc':
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5')
    return memory_bytes()['now']


def run(
    case: str, number: int, steps: int, root: str, cache: Path, output: Path
) -> list[dict[str, Any]]:
    r"""Starts ``number`` processes and returns what each measured."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        rendezvous = (
            {
                'MASTER_ADDR': '127.0.0.1',
                'MASTER_PORT': str(free.getsockname()[1]),
                'WORLD_SIZE': str(number),
                'LOCAL_WORLD_SIZE': str(number),
            }
            if number > 1
            else {}
        )
    command = [
        sys.executable,
        '-m',
        'benchmarks.scale.processes',
        '--child',
        str(output),
        '--cases',
        case,
        '--steps',
        str(steps),
        '--root',
        root,
        '--cache',
        str(cache),
    ]
    started = [
        subprocess.Popen(
            command,
            env={
                **thread_environment(1),
                **rendezvous,
                **({'RANK': str(rank), 'LOCAL_RANK': str(rank)} if number > 1 else {}),
            },
        )
        for rank in range(number)
    ]
    codes = [process.wait() for process in started]
    if any(codes):
        raise RuntimeError(f'{case} on {number} processes: exit codes {codes}')
    return [
        json.loads(output.with_name(f'{output.stem}-{rank}.json').read_text())
        for rank in range(number)
    ]


def largest_difference(first: Path, second: Path) -> float:
    r"""Largest difference of the parameters of two files. Biases before a batch normalization are
    left out: their gradient is rounding alone, by the size of which Adam divides it.
    """
    import torch

    one, other = (torch.load(path, weights_only=True) for path in (first, second))
    normalized = [name.removesuffix('norm.weight') for name in one if name.endswith('norm.weight')]
    left_out = {name + part for name in normalized for part in ('linear.bias', 'key.bias')}
    return max(
        float((value.double() - other[name].double()).abs().max())
        for name, value in one.items()
        if value.numel() and name not in left_out
    )


def measure(case: str, rounds: int, steps: int, root: str, cache: Path) -> dict[str, Any]:
    r"""Medians of a case by number of processes."""
    found: dict[int, list[list[dict[str, Any]]]] = {number: [] for number in NUMBERS}
    differences = {}
    for number in [number for _ in range(rounds) for number in NUMBERS]:
        output = cache / f'{case}-{number}.json'
        found[number].append(run(case, number, steps, root, cache, output))
        differences[number] = [
            largest_difference(cache / f'{case}-1{ending}', output.with_suffix(ending))
            for ending in ('.pt', '.gradients.pt')
        ]
        print(
            case,
            number,
            [[round(1e3 * value) for value in step] for step in found[number][-1][0]['figures']],
            file=sys.stderr,
            flush=True,
        )
    rows = {}
    for number, results in found.items():
        first = results[-1][0]
        rows[number] = {
            'shape': first['shape'],
            'wall': statistics.median(
                wall for processes in results for wall, _ in processes[0]['figures']
            ),
            'processor': statistics.median(
                max(step[1] for step in at_once)
                for processes in results
                for at_once in zip(*(process['figures'] for process in processes))
            ),
            'draw': statistics.median(processes[0]['draw'] for processes in results),
            'bytes': max(process['bytes'] for process in results[-1]),
            'formula': first['formula'],
            'messages': first['messages'],
            'memory': max(process['memory'] for process in results[-1]),
            'loss': first['loss'],
            'loss_difference': max(
                abs(value - found[1][-1][0]['loss'][name]) for name, value in first['loss'].items()
            ),
            'parameter_difference': differences[number][0],
            'gradient_difference': differences[number][1],
            'recall': first['recall'],
            'load': [processes[0]['load'] for processes in results],
        }
    return {
        'rows': rows,
        'work': found[1][-1][0]['work'],
        'edges': found[1][-1][0]['edges'],
        'steps': steps,
    }


def predictions(case: dict[str, Any]) -> dict[str, Any]:
    r"""The model of cost with one factor fitted to one process: seconds for what was measured and
    for more processes.
    """
    from genrec_pyg.distributed.cost import Machine, Workload, choose_grid, step_cost

    work = Workload(**case['work'])
    factor = case['rows'][1]['processor'] / step_cost(work, (1, 1)).seconds
    measured = {
        number: {
            'computed': factor * step_cost(work, tuple(row['shape'])).seconds,
            'measured': row['processor'],
        }
        for number, row in case['rows'].items()
    }
    beyond = {}
    for number in (8, 64, 512):
        for label, network in (('10 Gb/s', 1.25e9), ('100 Gb/s', 1.25e10)):
            shape = choose_grid(work, number, Machine(network=network))[0]
            cost = step_cost(work, shape, Machine(network=network))
            seconds = factor * (cost.seconds - cost.exchange) + cost.exchange
            beyond[f'{number} processes, {label}'] = {
                'shape': shape,
                'seconds': seconds,
                'times': case['rows'][1]['processor'] / seconds,
                'bytes': cost.num_bytes,
                'memory': cost.memory,
            }
    return {'factor': factor, 'measured': measured, 'beyond': beyond}


def largest(cases: dict[str, Any]) -> dict[str, Any]:
    r"""Computed steps on a graph that no machine here holds, by model: the factor of its largest
    measured case, and what :func:`predictions` gives beyond.
    """
    from genrec_pyg.distributed.cost import Machine, Workload, choose_grid, step_cost

    out: dict[str, Any] = {}
    for model, further in LARGEST.items():
        measured = {name: case for name, case in cases.items() if CASES[name][0] == model}
        if not measured:
            continue
        case = max(measured, key=lambda name: measured[name]['edges'])
        factor = measured[case]['cost']['factor']
        work = Workload(_USERS, _ITEMS, _EDGES, _EDGES // 32, layers=2, **further)
        rows = {}
        for number in (8, 64, 512):
            for label, network in (('10 Gb/s', 1.25e9), ('100 Gb/s', 1.25e10)):
                shape = choose_grid(work, number, Machine(network=network))[0]
                cost = step_cost(work, shape, Machine(network=network))
                rows[f'{number} processes, {label}'] = {
                    'shape': shape,
                    'seconds': factor * (cost.seconds - cost.exchange) + cost.exchange,
                    'exchange': cost.exchange,
                    'bytes': cost.num_bytes,
                    'memory': cost.memory,
                }
        out[model] = {'case': case, 'factor': factor, 'rows': rows}
    return out


def markdown(document: dict[str, Any]) -> str:
    r"""The report."""
    about = ' '.join((__doc__ or '').split('\n\n', 2)[2].split())
    loads = [
        load
        for case in document['cases'].values()
        for row in case['rows'].values()
        for load in row['load']
    ]
    parts = [
        '# Work of a step divided among processes',
        machine_line(document['machine']),
        about,
        f'{document["rounds"]} rounds of {document["steps"]} steps. The machine had '
        f'{os.cpu_count()} cores and a load average of {min(loads):.1f} to {max(loads):.1f} at '
        f'the end of the runs.',
    ]
    for name, case in document['cases'].items():
        one = case['rows'][1]
        parts += [
            f'## {name}: {case["edges"]} interactions, {CASES[name][2]} triples per step',
            markdown_table(
                [
                    'processes (grid)',
                    'step [ms]',
                    'times',
                    'processor [ms]',
                    'times',
                    'sent [MB]',
                    'formula [MB]',
                    'memory of a step [MB]',
                    'of one',
                    'loss differs',
                    'gradients differ',
                    'parameters differ',
                    'recall@20',
                ],
                [
                    [
                        f'{number} ({row["shape"][0]}x{row["shape"][1]})',
                        f'{1e3 * row["wall"]:.1f}',
                        f'{one["wall"] / row["wall"]:.2f}',
                        f'{1e3 * row["processor"]:.1f}',
                        f'{one["processor"] / row["processor"]:.2f}',
                        f'{row["bytes"] / 1e6:.3f}',
                        f'{row["formula"] / 1e6:.3f}',
                        f'{row["memory"] / 1e6:.0f}',
                        f'{row["memory"] / max(one["memory"], 1):.2f}',
                        f'{row["loss_difference"]:.1e}',
                        f'{row["gradient_difference"]:.1e}',
                        f'{row["parameter_difference"]:.1e}',
                        '-' if row['recall'] is None else f'{row["recall"]:.6f}',
                    ]
                    for number, row in case['rows'].items()
                ],
            ),
        ]
        cost = case['cost']
        fitted = ', '.join(
            f'{number}: {1e3 * entry["computed"]:.0f} / {1e3 * entry["measured"]:.0f}'
            for number, entry in cost['measured'].items()
        )
        parts += [
            f'Model of cost times {cost["factor"]:.2f}, computed / measured milliseconds of '
            f'processor time: {fitted}. Beyond, computed only:',
            markdown_table(
                ['processes', 'grid', 'step [ms]', 'times', 'sent [MB]', 'memory of a step [MB]'],
                [
                    [
                        label,
                        f'{entry["shape"][0]}x{entry["shape"][1]}',
                        f'{1e3 * entry["seconds"]:.1f}',
                        f'{entry["times"]:.1f}',
                        f'{entry["bytes"] / 1e6:.2f}',
                        f'{entry["memory"] / 1e6:.0f}',
                    ]
                    for label, entry in cost['beyond'].items()
                ],
            ),
        ]
    for model, found in document.get('largest', {}).items():
        parts += [
            f'## {model}, computed: {_USERS:.0e} users, {_ITEMS:.0e} items, {_EDGES:.0e} '
            f'interactions',
            f'The model of cost times {found["factor"]:.2f}, the factor of {found["case"]}; '
            f'nothing of it was run. It assumes one core per process, the constants of '
            f'`genrec_pyg.distributed.cost.Machine`, the named network for every process, and '
            f'even blocks; waiting for the slowest process and ranking are not in it.',
            markdown_table(
                ['processes', 'grid', 'step [s]', 'of it sent [s]', 'sent [GB]', 'memory [GB]'],
                [
                    [
                        label,
                        f'{entry["shape"][0]}x{entry["shape"][1]}',
                        f'{entry["seconds"]:.1f}',
                        f'{entry["exchange"]:.1f}',
                        f'{entry["bytes"] / 1e9:.2f}',
                        f'{entry["memory"] / 1e9:.1f}',
                    ]
                    for label, entry in found['rows'].items()
                ],
            ),
        ]
    return '\n\n'.join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description='Steps with their work divided among processes.')
    parser.add_argument('--root', default='data', help='folder that holds the datasets')
    parser.add_argument('--cases', nargs='+', default=list(CASES), choices=list(CASES))
    parser.add_argument('--rounds', type=positive, default=3)
    parser.add_argument('--steps', type=positive, default=5, help='measured steps of a round')
    parser.add_argument(
        '--cache', type=Path, help='folder for generated graphs, a temporary one by default'
    )
    parser.add_argument(
        '--output', type=Path, default=RESULTS / 'processes', help='report without ending'
    )
    parser.add_argument('--child', type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.child is not None:
        child(arguments.cases[0], arguments.steps, arguments.root, arguments.cache, arguments.child)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        cache = arguments.cache or Path(folder)
        document = {
            'machine': machine(1),
            'rounds': arguments.rounds,
            'steps': arguments.steps,
            'cases': {},
        }
        for case in arguments.cases:
            found = measure(case, arguments.rounds, arguments.steps, arguments.root, cache)
            document['cases'][case] = {**found, 'cost': predictions(found)}
            document['largest'] = largest(document['cases'])
            write_report(arguments.output, document, markdown(document))
        print(markdown(document))
    return 0


if __name__ == '__main__':
    sys.exit(main())
