"""nginx as a plain reverse proxy, and with njs that checks token, scope and JSON; one worker each."""

import secrets
from dataclasses import dataclass
from pathlib import Path

MODULES = (Path("/usr/lib/nginx/modules"), Path("/usr/share/nginx/modules"), Path("/usr/lib64/nginx/modules"))
POLICY = Path(__file__).with_name("policy.js")

_FRAME = """\
{modules}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_body_buffer_size 2m;
  client_max_body_size 4m;
  keepalive_requests 100000000;
  upstream mcp {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  proxy_http_version 1.1;
{http}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    proxy_set_header Connection "";
    proxy_set_header Host 127.0.0.1:{upstream};
    proxy_set_header Authorization "";
{server}
  }}
}}
"""
_PLAIN = "    location / { proxy_pass http://mcp; }"
_CHECKED = """\
    location / { js_content policy.check; }
    location @mcp { proxy_pass http://mcp; }"""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the script holds a request against."""

    secret: str
    issuer: str
    audience: str
    scopes: tuple[str, ...]


def find_module() -> Path | None:
    """Return nginx's njs module, where it is installed."""
    found = (folder / "ngx_http_js_module.so" for folder in MODULES)
    return next((path for path in found if path.exists()), None)


def write_plain(folder: Path, port: int, upstream: int) -> Path:
    """Write the configuration of the plain reverse proxy."""
    return _write(folder, modules="", http="", server=_PLAIN, port=port, upstream=upstream)


def write_checked(folder: Path, port: int, upstream: int, module: Path, policy: Policy) -> Path:
    """Write the configuration of the reverse proxy that checks."""
    variables = {
        "bench_secret": policy.secret,
        "bench_issuer": policy.issuer,
        "bench_audience": policy.audience,
        "bench_scopes": " ".join(policy.scopes),
    }
    guarded = secrets.token_hex(8)  # a map's source that never matches: nginx has no plain constant at this level
    maps = "\n".join(f'  map $arg_{guarded} ${name} {{ default "{value}"; }}' for name, value in variables.items())
    http = f"  js_path {POLICY.parent}/;\n  js_import policy from policy.js;\n{maps}"
    made = f"load_module {module};"
    return _write(folder, modules=made, http=http, server=_CHECKED, port=port, upstream=upstream)


def _write(folder: Path, **parts: str | int) -> Path:
    folder.mkdir()
    file = folder / "nginx.conf"
    file.write_text(_FRAME.format(folder=folder, **parts), encoding="utf-8")
    return file
