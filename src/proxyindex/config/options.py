"""The one table of options: flags, variables, TOML keys and `config show` all come from it.

A new key is a field of `Settings` and one line here.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxyindex.config import kinds, who
from proxyindex.config.kinds import Kind

ENV_PREFIX = "PROXYINDEX_"


@dataclass(frozen=True, slots=True)
class Option:
    """One thing that can be set.

    `key` names it in code; a dot separates a TOML table from its key. `shown_default` replaces
    the default in help texts where it is found at start.
    """

    key: str
    kind: Kind
    help: str
    field: str = ""
    shown_default: str = ""
    in_file: bool = True
    is_text: bool = True  # can be given by flag and variable, too

    @property
    def attribute(self) -> str:
        """The field of the settings, dotted as `key`."""
        return self.field or self.key

    @property
    def flag(self) -> str:
        return "--" + self.key.replace(".", "-").replace("_", "-")

    @property
    def variable(self) -> str:
        return ENV_PREFIX + self.key.replace(".", "_").upper()

    @property
    def toml(self) -> str:
        """The key as a file writes it, table first."""
        return self.key.replace("_", "-")


# one table for `[index.NAME]`, and for the one index of a file that has no such table
INDEX_OPTIONS: tuple[Option, ...] = (
    Option(
        "folders",
        kinds.FOLDERS,
        "Folders with your own packages, served before anything else; on the command line "
        "written without a flag. Uploads go to the first.",
    ),
    Option(
        "routes",
        kinds.ROUTES,
        "What is asked for names that match, such as 'torch*=pytorch': an upstream, a base, or "
        "folders for none; the first match wins; repeatable.",
    ),
    Option(
        "fallback",
        kinds.choice("proxy", "redirect", "none"),
        "For names the folders do not have: fetch and keep (proxy), send the client to the "
        "upstream's own page (redirect), or not found (none).",
    ),
    Option(
        "merge",
        kinds.PATTERNS,
        "Projects whose files are joined from all sources. UNSAFE: anyone who owns the name at "
        "an upstream can then offer you files; repeatable.",
    ),
    Option("overwrite", kinds.SWITCH, "Uploads may replace a file by other bytes."),
    Option(
        "claim",
        kinds.PATTERNS,
        "Public projects that may be uploaded, too, and are yours from then on; repeatable.",
    ),
    Option(
        "policy.reserved",
        kinds.PATTERNS,
        "Names never asked for at an upstream; acme covers acme-* too; repeatable.",
    ),
    Option(
        "policy.allow",
        kinds.RULES,
        "If given, serve only what matches, e.g. 'numpy' or 'django>=4.2'; repeatable.",
    ),
    Option(
        "policy.deny",
        kinds.RULES,
        "Refuse what matches, e.g. 'evil-*' or 'torch<2.1'; repeatable.",
    ),
    Option("read", who.GRANTS, "Who may see and install: '*', '@users', a name; repeatable."),
    Option("fetch", who.GRANTS, "Who may cause fetches from upstreams; repeatable."),
    Option("upload", who.GRANTS, "Who may upload, such as 'ci acme-*'; repeatable."),
    Option("delete", who.GRANTS, "Who may delete; repeatable."),
    Option("yank", who.GRANTS, "Who may yank and unyank; repeatable."),
    Option("admin", who.GRANTS, "Who may do all of these; repeatable."),
)

# of a table only
INHERITANCE_OPTIONS: tuple[Option, ...] = (
    Option("bases", kinds.NAMES, "Indexes and upstreams it inherits from, in order."),
    Option("upstreams", kinds.NAMES, "Upstreams it asks after its bases, in order."),
)

OPTIONS: tuple[Option, ...] = (
    *INDEX_OPTIONS,
    Option(
        "index",
        kinds.INDEXES,
        "Tables [index.NAME] with the keys above, for several indexes.",
        field="index_tables",
        is_text=False,
    ),
    Option(
        "default_index",
        kinds.INDEX_NAME,
        "The index that /simple/ is, if there are several.",
        shown_default="the first one",
    ),
    Option(
        "select_by_user",
        kinds.SWITCH,
        "A user name that is an index's name selects it behind /simple/.",
    ),
    Option(
        "upstream",
        kinds.UPSTREAMS,
        "Index to ask for projects the folders do not have: a URL, or pypi; repeatable, in order.",
        field="upstreams",
        shown_default="PyPI, as the installed pip knows it",
    ),
    Option("no_upstream", kinds.SWITCH, "Serve only the folders and ask no upstream."),
    Option("host", kinds.HOST, "Address to listen on; 0.0.0.0 for every IPv4 interface."),
    Option("port", kinds.count(0, 65535), "Port to listen on; 0 takes a free one."),
    Option(
        "unix_socket", kinds.PATH, "Listen on this Unix socket instead of on an address and port."
    ),
    Option("tls_cert", kinds.PATH, "PEM certificate chain to serve https with; needs --tls-key."),
    Option("tls_key", kinds.PATH, "PEM private key of --tls-cert."),
    Option(
        "base_path",
        kinds.BASE_PATH,
        "Serve everything below this path, such as /pypi; without it, too, for fronts that take it "
        "off.",
    ),
    Option(
        "public_url",
        kinds.PUBLIC_URL,
        "The whole address clients use, base path included, for the hints shown to people; "
        "links on index pages are relative and need none.",
    ),
    Option("workers", kinds.count(1, 256), "Processes that share the work and the cache."),
    Option("grace", kinds.DURATION, "How long running answers may take to finish at a stop."),
    Option(
        "cache_dir",
        kinds.PATH,
        "Folder to keep fetched pages and files in; may be deleted at any time.",
        shown_default="the user's cache folder",
    ),
    Option("cache_size", kinds.SIZE, "Files kept at most; the least recently used go first."),
    Option("page_cache_size", kinds.SIZE, "Index pages kept at most, besides the files."),
    Option("offline", kinds.SWITCH, "Never ask an upstream; serve folders and cache."),
    Option(
        "look_ahead",
        kinds.SWITCH,
        "Fetch what a client that asks for one thing at a time, as pip does, will want next.",
    ),
    Option(
        "page_ttl",
        kinds.DURATION,
        "How long a page counts as fresh at most, and when its upstream does not say.",
    ),
    Option(
        "stale_while_revalidate",
        kinds.DURATION,
        "How long after that a page is still served at once and renewed meanwhile.",
    ),
    Option(
        "stale_if_error",
        kinds.DURATION,
        "How old a page may be that is served because its upstream fails.",
    ),
    Option("negative_ttl", kinds.DURATION, 'How long an upstream\'s "no such project" is kept.'),
    Option("max_file_size", kinds.SIZE, "Largest file fetched from an upstream."),
    Option("max_page_size", kinds.SIZE, "Largest page read from an upstream, decoded."),
    Option("max_upload_size", kinds.SIZE, "Largest file taken by an upload."),
    Option(
        "max_transfers",
        kinds.count(1, 10_000),
        "Downloads from one upstream at one time, per worker.",
    ),
    Option(
        "project_list",
        kinds.choice("local", "all"),
        "What /simple/ lists: your own projects, or those of all upstreams too.",
    ),
    Option(
        "htpasswd",
        who.FILES,
        "Files of users and passwords as htpasswd writes them; read again when they change.",
    ),
    Option(
        "tokens",
        kinds.PATH,
        "File of API tokens that `proxyindex token` keeps; read again when it changes.",
        shown_default="the user's data folder",
    ),
    Option(
        "groups",
        who.GROUPS,
        'Table of groups: release = ["alice", "bob"] is what @release means.',
        is_text=False,
    ),
    Option(
        "remote_user_header",
        who.HEADER,
        "Header in which a front server names the user it has logged in, such as Remote-User.",
    ),
    Option(
        "remote_user_from",
        who.PEERS,
        "Peers whose remote-user-header is believed: addresses, networks, or unix; repeatable.",
    ),
    Option(
        "trusted_proxies",
        kinds.NETWORKS,
        "Peers whose X-Forwarded-* headers are believed; repeatable.",
    ),
    Option("log_format", kinds.choice("text", "json"), "Form of the log lines."),
    Option(
        "log_level",
        kinds.choice("debug", "info", "warning", "error"),
        "Least level that is logged.",
    ),
    Option(
        "audit_log",
        kinds.PATH,
        "File to append a line to for each change and refused log-in, instead of logging it.",
    ),
    Option(
        "config",
        kinds.PATH,
        "TOML file to read; none is read unless named.",
        field="config_file",
        in_file=False,
    ),
)

UPSTREAM_OPTIONS: tuple[Option, ...] = (
    Option(
        "name",
        kinds.UPSTREAM_NAME,
        "What logs, metrics and variables call it.",
        shown_default="made from the URL",
    ),
    Option("url", kinds.UPSTREAM_URL, "Its URL, usually ending in /simple, or pypi; required."),
    Option("username", kinds.plain("a user name"), "User name for this upstream's origin only."),
    Option("password", kinds.SECRET, "Password or token; better kept out of the file."),
    Option("password_env", kinds.plain("the name of a variable"), "Variable holding the password."),
    Option("password_file", kinds.PATH, "File holding the password."),
    Option("ca_file", kinds.PATH, "PEM certificates to trust for this upstream."),
    Option("client_cert", kinds.PATH, "PEM certificate to show to this upstream."),
    Option("client_key", kinds.PATH, "PEM key of client-cert, if not in the same file."),
    Option("proxy", kinds.PROXY, "HTTP proxy to reach this upstream through."),
    Option("connect_timeout", kinds.duration("1ms"), "Longest wait for a connection."),
    Option(
        "read_timeout",
        kinds.duration("1ms"),
        "Longest silence within an answer; a page has 60s in all.",
    ),
    Option("retries", kinds.count(0, 20), "Further attempts after a failure that may pass."),
    Option(
        "max_connections", kinds.count(1, 1000), "Connections for pages at one time, per worker."
    ),
    Option("file_hosts", kinds.FILE_HOSTS, "Other hosts that may hold the files it lists."),
    Option(
        "metadata", kinds.SWITCH, "Offer core metadata of wheels even where the upstream does not."
    ),
    Option(
        "forbidden_is_missing",
        kinds.SWITCH,
        'A 403 means "no such project" (some wheel indexes say it so).',
    ),
    Option(
        "policy.reserved", kinds.PATTERNS, "As [policy], for this upstream: names it is not asked."
    ),
    Option("policy.allow", kinds.RULES, "As [policy], for this upstream: all that is served."),
    Option("policy.deny", kinds.RULES, "As [policy], for this upstream: what is refused."),
)
