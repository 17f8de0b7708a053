"""Ray Serve application: the HTTP API, MCP and the page (docs/serving.md)."""
