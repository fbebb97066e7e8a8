r"""Serves a bundle over HTTP: ``python -m genrec_pyg.serve BUNDLE``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.serving.limits import Limits
from genrec_pyg.utils.command_line import path_argument, require, run_command

logger = logging.getLogger(__name__)

#: Environment variable with the bearer token.
TOKEN = 'GENREC_TOKEN'
#: What torch, OpenBLAS and MKL read at their start.
_THREADS = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')
_LIMITS = {
    'lists': 'lists of one request',
    'k': 'items of one list',
    'history': 'items of a history',
    'new_items': 'new items of one request',
    'body': 'bytes of one request',
    'waiting': 'lists that wait at a time',
    'batch': 'lists that are made together',
}


def serve(argv: Sequence[str]) -> None:
    r"""Serves until SIGTERM or SIGINT, and then answers what has arrived. SIGHUP looks for another
    bundle.
    """
    arguments = _parse(argv)
    require(['fastapi', 'uvicorn', 'prometheus_client', 'safetensors', 'numpy'], 'serve')
    for name in _THREADS:  # before numpy is imported
        os.environ[name] = str(arguments.threads)
    token = _read_token(arguments.token_file)
    listener = _listen(arguments.host, arguments.port)
    try:
        _run(_serve(arguments, token, listener))
    finally:
        listener.close()


def _run(service: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:  # not on Windows
        asyncio.run(service)
    else:
        uvloop.run(service)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m genrec_pyg.serve',
        allow_abbrev=False,
        description='Serves a bundle over HTTP.',
    )
    parser.add_argument(
        'bundle', type=path_argument, help='folder written by python -m genrec_pyg.export'
    )
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen on; 0.0.0.0 is every one of this machine',
    )
    parser.add_argument(
        '--port', type=int, default=8000, help='port; 0 takes a free one (default: 8000)'
    )
    parser.add_argument(
        '--token_file',
        type=path_argument,
        help=f'file with the token that requests must carry; ${TOKEN} '
        'without it, and no token where neither is set',
    )
    parser.add_argument(
        '--index',
        default='exact',
        choices=('exact', 'approximate'),
        help='approximate: visits few of the items; needs faiss (default: exact)',
    )
    parser.add_argument(
        '--num_cells',
        type=int,
        help='cells of the approximate index (default: by the number of items)',
    )
    parser.add_argument(
        '--num_probes',
        type=int,
        default=16,
        help='cells that a query of the approximate index visits (default: 16)',
    )
    parser.add_argument(
        '--poll',
        type=float,
        default=1.0,
        help='seconds between two looks for another bundle (default: 1)',
    )
    parser.add_argument('--threads', type=int, default=1, help='threads of a product (default: 1)')
    for name, text in _LIMITS.items():
        default = getattr(Limits, name)
        parser.add_argument(
            f'--max_{name}', type=int, default=default, help=f'most {text} (default: {default})'
        )
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    arguments = parser.parse_args(argv)
    numbers = ['num_probes', 'threads', *(f'max_{name}' for name in _LIMITS)]
    for name in numbers:
        value = getattr(arguments, name)
        if value < 1:
            raise ConfigError(f'--{name}: got {value}, accepted are integers from 1')
    if not 0 <= arguments.port < 65536 or not 0.01 <= arguments.poll < 1e6:
        raise ConfigError(
            f'--port, --poll: got {arguments.port}, {arguments.poll}, accepted are 0 to 65535 and '
            f'seconds from 0.01'
        )
    return arguments


def _read_token(path: str | None) -> str | None:
    if path is None:
        return os.environ.get(TOKEN) or None
    try:
        token = Path(path).read_text('utf-8').strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'--token_file: {path} cannot be read ({error})') from error
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigError(
            f'--token_file: {path} holds no token, accepted is one line of printable ASCII'
        )
    return token


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f'--host: got {host!r}, which is no address ({error})') from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f'--host, --port: cannot listen on {host}, {port} ({error.strerror})'
        ) from error
    return listener


async def _serve(arguments: argparse.Namespace, token: str | None, listener: socket.socket) -> None:
    import uvicorn

    from genrec_pyg.serving.app import make_app
    from genrec_pyg.serving.metrics import Metrics
    from genrec_pyg.serving.served import Current, Served

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(
            self,
        ) -> Iterator[None]:  # handled below, so that an ordered end is exit code 0
            yield

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            host, port = listener.getsockname()[:2]
            logger.info('serves bundle %s on http://%s:%d', current.served.name, host, port)

    limits = Limits(**{name: getattr(arguments, f'max_{name}') for name in _LIMITS})
    metrics, asked = Metrics(), asyncio.Event()
    current = Current(
        Path(arguments.bundle),
        lambda folder: Served(folder, arguments.index, arguments.num_probes, arguments.num_cells),
        metrics.reload,
    )
    if token is None and arguments.host not in ('127.0.0.1', '::1', 'localhost'):
        logger.warning(
            '--host %s without a token: whoever reaches this machine gets answers', arguments.host
        )
    app = make_app(current, metrics, limits, token, arguments.poll, asked)
    server = Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level='warning',
            access_log=False,
            lifespan='on',
            server_header=False,
            timeout_graceful_shutdown=30,
            loop='none',
        )
    )
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows has its own signals
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _end, server)
        loop.add_signal_handler(signal.SIGHUP, asked.set)
    await server.serve(sockets=[listener])


def _end(server: Any) -> None:
    server.should_exit = True


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    return run_command(serve, argv)


if __name__ == '__main__':
    sys.exit(main())
