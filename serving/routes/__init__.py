"""The HTTP routes, one file a subject."""

from serving.routes import archive, chat, health, ingest, media, models, search

ROUTERS = tuple(module.router for module in (chat, models, search, archive, media, ingest, health))
