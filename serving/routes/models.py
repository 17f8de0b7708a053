"""OpenAI's list of models: the one student."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from serving.access import Caller
from serving.errors import ApiError
from serving.gateway import Gateway, gateway_of, needs
from serving.schemas import Model, ModelList

router = APIRouter(prefix="/v1/models")


@router.get("")
async def models(
    gateway: Gateway = Depends(gateway_of), _: Caller = Depends(needs(None))
) -> ModelList:
    """All models."""
    return ModelList(data=[_model(gateway)])


@router.get("/{model}")
async def model(
    model: str, gateway: Gateway = Depends(gateway_of), _: Caller = Depends(needs(None))
) -> Model:
    """One model."""
    check_model(gateway, model)
    return _model(gateway)


def check_model(gateway: Gateway, name: str) -> None:
    """Raise a 404 for any name but the model's own."""
    if name != gateway.config.model:
        message = f"There is no model '{name[:200]}'. The model here is '{gateway.config.model}'."
        raise ApiError(404, "model_not_found", message, param="model")


def _model(gateway: Gateway) -> Model:
    return Model(id=gateway.config.model, created=gateway.started_at)
