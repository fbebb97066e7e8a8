r"""What every request passes: the token, the limit on its size, errors as JSON, the count."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Collection
from typing import Any

from genrec_pyg.serving.metrics import Metrics

logger = logging.getLogger(__name__)

#: What may be asked without a token: whether the service lives, as load balancers do.
OPEN = ('/health',)


#: Status, code and message of what is nobody's fault but the service's.
INTERNAL = (500, 'internal', 'this is an error of the service; its log says more')


class _TooLargeError(Exception):
    pass


class Gate:
    r"""ASGI middleware (https://asgi.readthedocs.io) around the whole application.

    Args:
        app: Application.
        metrics: Counts of requests.
        paths: Paths that there are; others are counted as one.
        body: Most bytes of a body.
        token: What requests must carry as ``Authorization: Bearer TOKEN``; :obj:`None` asks for
            nothing.
    """

    def __init__(
        self,
        app: Any,
        metrics: Metrics,
        paths: Collection[str],
        body: int,
        token: str | None = None,
    ):
        self._app, self._metrics, self._paths, self._body = app, metrics, frozenset(paths), body
        self._expected = None if token is None else b'Bearer ' + token.encode()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        r"""Answers one request."""
        if scope['type'] != 'http':
            await self._app(scope, receive, send)
            return
        begin, status, complete, taken = time.perf_counter(), 0, False, 0
        path = scope['path'] if scope['path'] in self._paths else 'other'

        async def counted(message: dict[str, Any]) -> None:
            nonlocal status, complete
            if message['type'] == 'http.response.start':
                status = message['status']
            await send(message)
            if message['type'] == 'http.response.body' and not message.get('more_body'):
                complete = True
                self._metrics.request(path, status, time.perf_counter() - begin)

        async def limited() -> dict[str, Any]:
            nonlocal taken
            message = await receive()
            taken += len(message.get('body', b''))
            if taken > self._body:
                raise _TooLargeError
            return message

        async def unless_too_large(message: dict[str, Any]) -> None:
            if taken <= self._body:  # else it is what the application makes of the error above
                await counted(message)

        refused = self._refused(scope)
        if refused is not None:
            await _answer(counted, *refused)
            return
        try:
            await self._app(scope, limited, unless_too_large)
        except Exception:
            if taken <= self._body:
                logger.exception('%s %s failed', scope['method'], path)
            if status != 0 and not complete:
                raise  # the server ends the connection, so that the half is not taken for whole
        if not complete:
            await _answer(counted, *(self._too_large() if taken > self._body else INTERNAL))

    def _refused(self, scope: dict[str, Any]) -> tuple[int, str, str] | None:
        headers = dict(scope['headers'])
        if (
            self._expected is not None
            and scope['path'] not in OPEN
            and not hmac.compare_digest(headers.get(b'authorization', b''), self._expected)
        ):
            return (
                401,
                'unauthorized',
                'accepted is the header "Authorization: Bearer TOKEN" with the token of the '
                'service',
            )
        length = headers.get(b'content-length', b'0')
        return self._too_large() if length.isdigit() and int(length[:20]) > self._body else None

    def _too_large(self) -> tuple[int, str, str]:
        return 413, 'too_large', f'accepted are bodies of up to {self._body} bytes'


def error_body(code: str, message: str) -> bytes:
    r"""An error as JSON."""
    return json.dumps({'error': {'code': code, 'message': message}}).encode()


async def _answer(send: Any, status: int, code: str, message: str) -> None:
    body = error_body(code, message)
    headers = [(b'content-type', b'application/json'), (b'content-length', str(len(body)).encode())]
    if status == 401:
        headers.append((b'www-authenticate', b'Bearer'))
    if status == 413:
        headers.append((b'connection', b'close'))  # the rest of the body is not read
    await send({'type': 'http.response.start', 'status': status, 'headers': headers})
    await send({'type': 'http.response.body', 'body': body})
