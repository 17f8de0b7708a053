"""The HTTP routes, one file a subject."""

from serving.routes import archive, chat, health, media, models, search

ROUTERS = (chat.router, models.router, search.router, archive.router, media.router, health.router)
