"""The OpenAPI document: FastAPI's, and what it cannot say of its own accord."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serving.chat_schemas import ChatChunk

_PARTS = "#/components/schemas/"
STREAM: dict[str, Any] = {
    "itemSchema": {
        "type": "object",
        "required": ["data"],
        "properties": {
            "data": {
                "anyOf": [
                    {"type": "string", "const": "[DONE]"},
                    *(
                        {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "contentSchema": {"$ref": f"{_PARTS}{name}"},
                        }
                        for name in ("ChatChunk", "ErrorReply")
                    ),
                ]
            }
        },
    }
}
"""Server-sent events of a streamed answer, as OpenAPI 3.2 describes them."""


def describe(app: FastAPI) -> None:
    """Let the application's document hold the types of its streams, too."""
    plain = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schemas = plain()["components"]["schemas"]
            chunk = ChatChunk.model_json_schema(ref_template=_PARTS + "{model}")
            schemas |= {"ChatChunk": chunk} | chunk.pop("$defs") | schemas
        return plain()

    app.openapi = document  # type: ignore[method-assign]
