"""A stdio MCP server behind streamable HTTP, both protocol eras on one endpoint.

Run by supervisord as the server's program (`python -m proxy.bridge … -- argv`). Works on raw JSON-RPC frames: what a
child says is what the client gets, only ids, progress tokens and subscription ids are translated.
"""
