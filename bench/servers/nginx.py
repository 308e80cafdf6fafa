"""nginx: as a caching proxy that rewrites links, and as a server of static files."""

from __future__ import annotations

import os
from pathlib import Path

from bench.environments import program
from bench.servers.base import Kind, Server, Setup, Site, free_port

_COMMON = """\
daemon off;
{user}
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type application/octet-stream;
    sendfile on;
    keepalive_requests 100000000;
    {http}
}}
"""
# Links lead to the proxy itself; a range far inside a file that is not there yet goes past the
# cache; a herd waits for one download. sub_filter needs plain pages from upstream.
_PROXY = """
    proxy_cache_path {folder}/cache levels=1:2 keys_zone=all:64m max_size=20g use_temp_path=off;
    gzip on;
    gzip_types application/vnd.pypi.simple.v1+json;
    gzip_proxied any;
    upstream index {{ server {upstream}; keepalive 32; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host {upstream};
        proxy_cache all;
        proxy_cache_lock on;
        proxy_cache_lock_timeout 60s;
        proxy_cache_lock_age 60s;
        location /simple/ {{
            proxy_pass http://index;
            proxy_set_header Accept-Encoding "";
            proxy_cache_key $uri$http_accept;
            sub_filter 'http://{upstream}/files/' '/files/';
            sub_filter_once off;
            sub_filter_types application/vnd.pypi.simple.v1+json;
        }}
        location /files/ {{
            proxy_pass http://index;
            proxy_cache_key $uri;
            proxy_cache_max_range_offset 1m;
        }}
    }}
"""
_STATIC = """
    gzip_static always;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        root {answers};
        location /file/ {{ gzip_static off; }}
    }}
"""


class _Nginx(Server):
    block: str

    def prepare(self, setup: Setup) -> None:
        program("nginx")

    def launch(self, setup: Setup) -> Site:
        port = free_port()
        values = {
            "folder": setup.folder,
            "workers": setup.workers,
            "upstream": setup.upstream.removeprefix("http://"),
            "port": port,
            "answers": setup.answers,
            # its workers would not be allowed to read our folders
            "user": "user root;" if os.geteuid() == 0 else "",
        }
        config = setup.folder / "nginx.conf"
        config.write_text(_COMMON.format(http=self.block.format(**values), **values))
        command: list[str | Path] = [program("nginx"), "-c", config, "-p", setup.folder]
        url = f"http://127.0.0.1:{port}"
        child = setup.child([*command, "-e", setup.folder / "error.log"])
        return Site(self.name, url, child, setup.folder, is_limit=self.kind == "limit")


class NginxCache(_Nginx):
    name = "nginx-cache"
    title = "nginx proxy_cache"
    block = _PROXY


class NginxStatic(_Nginx):
    name = "nginx-static"
    title = "nginx static"
    kind: Kind = "limit"
    block = _STATIC
