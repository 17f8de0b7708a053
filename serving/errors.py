"""Everything that can go wrong, in the one form: {"error": {type, message, param, code}}.

The only place that turns exceptions into HTTP. What is not known here is our own bug: a 500 without
its text, which goes to the log with the request's id.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from ray.exceptions import RayTaskError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from marc_core.errors import AnswerError, EngineError, MarcError, MissingFeaturesError
from serving.schemas import ErrorBody, ErrorReply

log = logging.getLogger("marc.serving")

_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
    404: "not_found_error", 409: "conflict_error", 429: "rate_limit_error",
    500: "server_error", 503: "overloaded_error", 504: "timeout_error",
    507: "storage_error",
}  # fmt: skip
_CODES = {400: "invalid_json", 404: "not_found", 405: "method_not_allowed"}
_UNION = re.compile(r"(constrained-)?(str|int|float|bool|none)|(list|function|nullable)\W.*")
"""How pydantic names the members of a union; no field is called so."""


class ApiError(MarcError):
    """An answer that is an error. retry_after_s: when to come again, where that helps."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.param, self.retry_after_s = param, retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        state = {"param": self.param, "retry_after_s": self.retry_after_s}
        return (type(self), (self.status, self.code, self.message), state)

    def body(self) -> dict[str, Any]:
        """Return the error as JSON values."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        error = ErrorBody(type=kind, message=self.message, param=self.param, code=self.code)
        return ErrorReply(error=error).model_dump()

    def response(self) -> JSONResponse:
        """Return the HTTP response."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers)


def not_found(kind: str, name: str) -> ApiError:
    """Return the 404 of a video, event or job that is not there, or that the key may not see."""
    return ApiError(404, f"{kind}_not_found", f"There is no {kind} '{name[:200]}'.")


def unavailable(what: str) -> ApiError:
    """Return the 503 of a part that is gone for the moment."""
    message = f"The {what} is being replaced. Try again in a moment."
    return ApiError(503, "unavailable", message, retry_after_s=1)


def overloaded(retry_after_s: int) -> ApiError:
    """Return the 503 of a queue that is full."""
    message = "As many requests wait as may wait. Try again in a moment."
    return ApiError(503, "overloaded", message, retry_after_s=retry_after_s)


def cause_of(error: BaseException) -> BaseException:
    """Return what was raised, also where it comes from another process."""
    while isinstance(error, RayTaskError):  # whose own text is a traceback
        error = error.cause
    return error


def api_error(error: BaseException, request_id: str = "") -> ApiError:
    """Return what to answer to an exception, also one of another process."""
    raised, error = error, cause_of(error)
    if isinstance(error, ApiError):
        return error
    if isinstance(error, MissingFeaturesError):
        return ApiError(409, "missing_features", str(error))
    if isinstance(error, AnswerError):
        return ApiError(422, "unanswerable", str(error))
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        message = "No answer within the deadline. Ask for fewer tokens, or try again."
        return ApiError(504, "deadline_exceeded", message)
    if isinstance(error, EngineError):
        return unavailable("student")
    log.error("unexpected error", exc_info=raised, extra={"request_id": request_id})
    message = f"An error of the server's own; its log has it under '{request_id}'."
    return ApiError(500, "internal_error", message)


def install(app: FastAPI) -> None:
    """Let the application answer every exception in the one form."""

    def known(request: Request, error: Exception) -> JSONResponse:
        return api_error(error, request.scope.get("request_id", "")).response()

    def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind and "json" not in kind and any(e["loc"] == ("body",) for e in error.errors()):
            return _no_json(kind).response()
        return validation_error(error.errors()).response()

    def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = _CODES.get(error.status_code, "invalid_value")
        said = str(error.detail)
        if said == HTTPStatus.NOT_FOUND.phrase:
            said = (
                f"There is nothing at '{request.url.path[:200]}'. /openapi.json lists the routes; "
                "the page is at /."
            )
        response = ApiError(error.status_code, code, said).response()
        response.headers.update(error.headers or {})
        if error.status_code == 405:
            response.headers["Allow"] = ", ".join(_methods(request))
        return response

    app.add_exception_handler(MarcError, known)
    app.add_exception_handler(TimeoutError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, known)


def _methods(request: Request) -> list[str]:
    """Return what may be asked of an address, by all routes that have it."""
    found: set[str] = set()
    for route in request.app.state.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods
    return sorted(found)


def _no_json(kind: str) -> ApiError:
    """Return the error of a body that says of itself that it is no JSON (`curl -d` does)."""
    message = (
        f"The body must be JSON and say so: send the header Content-Type: application/json. Got "
        f"'{kind[:80]}'."
    )
    return ApiError(415, "unsupported_type", message)


def validation_error(errors: Sequence[Any]) -> ApiError:
    """Return the error of a request that breaks its schema: the first field that is not known,
    else the first value that breaks a rule."""
    unknown = [e for e in errors if e["type"] == "extra_forbidden"]
    first = (unknown or list(errors))[0]
    where, *path = first["loc"]
    param = ".".join(str(part) for part in path if not _UNION.fullmatch(str(part))) or None
    if first["type"] == "json_invalid":
        return ApiError(400, "invalid_json", "The body must be JSON in UTF-8.")
    if unknown:
        message = f"'{param}' is not supported. Leave it out; docs/serving.md lists what is."
        return ApiError(400, "unsupported_parameter", message, param=param)
    place = f"'{param}'" if param else f"The {where}"
    rule = first["msg"].removeprefix("Value error, ")
    message = f"{place}: {rule[0].lower()}{rule[1:]}. Got {_short(first.get('input'))}."
    return ApiError(422, "invalid_value", message, param=param)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
