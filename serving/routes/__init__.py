"""The HTTP routes, one file a subject."""

from serving.routes import archive, chat, health, models, search

ROUTERS = (chat.router, models.router, search.router, archive.router, health.router)
