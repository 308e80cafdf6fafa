"""The page a browser gets at `/`: what this server is and the lines to copy. No scripts.

It tells names and addresses meant for everyone; no paths, upstream addresses or credentials.
"""

from __future__ import annotations

from html import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxyindex.web.clients import PLACEHOLDER_HOST, ClientHints, Snippet, snippets
from proxyindex.web.people import style_source
from proxyindex.web.responses import REVALIDATE

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2433;--dim:#5b6475;--paper:#f6f7f9;--card:#fff;
--line:#dfe3ea;--mark:#2f5fd0}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8f0;--dim:#97a1b5;--paper:#12151c;
--card:#1a1f29;--line:#2c3442;--mark:#8fb0ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:46rem;margin:0 auto;padding:3.5rem 1.25rem 4rem}
h1{margin:0;font-size:1.9rem;letter-spacing:-.02em}
h1 small{font-size:1rem;font-weight:400;color:var(--dim);letter-spacing:0}
h2{margin:2.2rem 0 .5rem;font-size:1.05rem}
h2 span{font-weight:400;color:var(--dim)}
p{margin:.4rem 0;color:var(--dim)}
strong{color:var(--ink);font-weight:600}
a{color:var(--mark)}
pre{margin:0;padding:.85rem 1rem;background:var(--card);border:1px solid var(--line);
border-radius:.6rem;overflow-x:auto;user-select:all;
font:.875rem/1.6 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
"""
# its own style and nothing else
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; {style_source(_STYLE)}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def page(request: Request) -> Response:
    """`GET /`, also below the name of an index: the page, the same for everybody."""
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": REVALIDATE,
    }
    return Response(request.state.landing, headers=headers)


ROUTES = (Route("/", page),)


def render(hints: ClientHints) -> bytes:
    """The whole page as UTF-8 HTML."""
    sections = "\n".join(_section(snippet) for snippet in snippets(hints))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>proxyindex</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>proxyindex <small>{escape(hints.version)}</small></h1>
<p>A Python package index. It serves <strong>{escape(hints.serves)}</strong>.</p>
<p>Index: <strong>{escape(hints.index_url)}</strong> (<a href="simple/">list of projects</a>)</p>
{_others(hints)}{_placeholder_remark(hints)}{sections}
</main>
</body>
</html>
""".encode()


def _others(hints: ClientHints) -> str:
    if not hints.indexes:
        return ""
    links = (f'<a href="{name}/">{name}</a>' for name in map(escape, hints.indexes))
    return f"<p>All indexes: {', '.join(links)}</p>\n"


def _section(snippet: Snippet) -> str:
    remark = f"\n<p>{escape(snippet.remark)}</p>" if snippet.remark else ""
    heading = f"<h2>{escape(snippet.client)} <span>· {escape(snippet.where)}</span></h2>"
    return f"{heading}\n<pre>{escape(snippet.text)}</pre>{remark}"


def _placeholder_remark(hints: ClientHints) -> str:
    if f"//{PLACEHOLDER_HOST}" not in hints.base_url:
        return ""
    return f"<p>Put the name you reach this server by in place of {PLACEHOLDER_HOST}.</p>\n"
