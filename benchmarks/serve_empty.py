"""An application that does nothing, with the hops of MARC's: HTTP, a first deployment that gives
bytes, a second one that takes them and gives a text. What MARC's own server is compared with."""

from typing import Any

from fastapi import FastAPI, Request
from ray import serve

EVIDENCE_BYTES = 4_000
"""What the tiny preset's evidence has, about."""
web = FastAPI()


@serve.deployment
class First:
    """Stands for the retriever."""

    async def prepare(self, question: dict[str, Any]) -> bytes:
        return bytes(question.get("bytes", EVIDENCE_BYTES))


@serve.deployment
class Second:
    """Stands for the student."""

    async def complete(self, evidence: bytes) -> list[dict[str, Any]]:
        return [{"index": 0, "text": "left", "finish_reason": "stop"}]


@serve.deployment
@serve.ingress(web)
class Front:
    """Stands for the gateway."""

    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second = first, second

    @web.post("/v1/chat/completions")
    async def chat(self, request: Request) -> dict[str, Any]:
        evidence = await self.first.prepare.remote(await request.json())
        return {"choices": await self.second.complete.remote(evidence)}


def empty_application(num_cpus: float = 0.1) -> serve.Application:
    """Return the application, each part as large as MARC's own."""

    def part(deployment: Any, *args: Any) -> Any:
        options = {"num_cpus": num_cpus}
        return deployment.options(
            ray_actor_options=options, max_ongoing_requests=256, max_queued_requests=256
        ).bind(*args)

    return part(Front, part(First), part(Second))
