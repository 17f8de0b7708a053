"""Liveness, readiness, metrics, and who one is."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from serving.access import Caller
from serving.errors import api_error
from serving.gateway import Gateway, gateway_of, needs
from serving.schemas import Health, WhoAmI

router = APIRouter()


@router.get("/health", response_model=Health)
async def health() -> Health:
    """The process lives."""
    return Health(status="ok")


@router.get("/ready", response_model=Health, responses={503: {"model": Health}})
async def ready(gateway: Gateway = Depends(gateway_of)) -> Any:
    """Questions can be answered: the memory is open and warm, the student is loaded."""
    parts, more = {}, {}
    for name, part in (("retriever", gateway.retriever), ("student", gateway.student)):
        try:
            more |= await gateway.soon(part.health()) or {}
            parts[name] = "ok"
        except Exception as error:  # noqa: BLE001 - whatever it is, the part is not ready
            parts[name] = api_error(error).message
    is_ready = all(state == "ok" for state in parts.values())
    found = Health(
        status="ok" if is_ready else "starting",
        parts=parts,
        weights_version=more.get("weights_version"),
        weights_problem=more.get("weights_problem") or None,
    )
    return JSONResponse(found.model_dump(), 200 if is_ready else 503)


@router.get("/metrics", response_class=Response)
async def metrics(
    gateway: Gateway = Depends(gateway_of), _: Caller = Depends(needs("admin"))
) -> Response:
    """Metrics as Prometheus reads them."""
    return Response(gateway.metrics.text(), media_type="text/plain; version=0.0.4")


@router.get("/v1/whoami")
async def whoami(
    gateway: Gateway = Depends(gateway_of), caller: Caller = Depends(needs(None))
) -> WhoAmI:
    """What the caller may do."""
    expires = None if caller.key is None else caller.key.expires_at
    return WhoAmI(
        anonymous=caller.key is None,
        name=caller.name,
        scopes=sorted(caller.scopes),
        model=gateway.config.model,
        max_upload_bytes=gateway.config.uploads.max_bytes if gateway.config.uploads.folder else 0,
        expires_at=None if expires is None else expires.isoformat(),
    )
