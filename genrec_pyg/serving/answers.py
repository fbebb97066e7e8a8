r"""Answers of the service: lists as JSON, and errors with a code and a sentence."""

import json
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from genrec_pyg.serving import schemas
from genrec_pyg.serving.batching import OverloadedError
from genrec_pyg.serving.gate import INTERNAL, error_body
from genrec_pyg.serving.ranking import Ranked
from genrec_pyg.serving.served import RequestError, Served

#: Answers besides the good ones, for the OpenAPI description.
ERRORS = {
    status: {'model': schemas.Errors, 'description': text}
    for status, text in {
        400: 'no JSON',
        401: 'no token, or another one',
        404: 'unknown user or item',
        405: 'another method',
        409: 'the model cannot do this',
        413: 'body too large',
        422: 'not what is accepted',
        503: 'too many requests wait',
    }.items()
}


def add_errors(app: FastAPI) -> None:
    r"""Turns what goes wrong into answers."""

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> Response:
        return _error(error.status, error.code, error.message)

    @app.exception_handler(OverloadedError)
    async def overloaded(request: Request, error: OverloadedError) -> Response:
        return _error(
            503, 'overloaded', 'too many lists wait already; try again', {'retry-after': '1'}
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = '.'.join(str(part)[:80] for part in first['loc'][1:]) or 'body'
        return _error(422, 'invalid', f'{place}: {first["msg"]}'[:1000])

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return _error(*INTERNAL)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        return _error(error.status_code, 'refused', str(error.detail), dict(error.headers or {}))


def list_answer(
    served: Served, heads: Sequence[dict[str, Any]], found: Sequence[Ranked]
) -> Response:
    r"""Lists of the bundle that answers, each after what it is for."""
    lists = [{**head, 'items': served.entries(ranked)} for head, ranked in zip(heads, found)]
    return json_answer({'bundle': served.name, 'lists': lists})


def json_answer(content: Any) -> Response:
    r"""A document as JSON."""
    return Response(json.dumps(content, separators=(',', ':')), media_type='application/json')


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return Response(error_body(code, message), status, headers, 'application/json')
