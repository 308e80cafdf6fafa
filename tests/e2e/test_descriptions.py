"""pip-tools takes the digests of a release from its description, and downloads nothing for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clients import Workbench, tool
from tests.support.fixtures import ServerFactory
from tests.support.pages import FileSpec, sdist_spec, wheel_spec
from tests.support.reply import sha256_of
from tests.support.upstream import FakeUpstream

LIB = wheel_spec("px-lib", "1.5", payload=100_000)
FOR_OTHERS = FileSpec(
    filename="px_lib-1.5-cp39-cp39-win_amd64.whl", body=b"of no interest here" * 1_000
)
SDIST = sdist_spec("px-lib", "1.5")


@pytest.mark.parametrize("index", ["", "dev"])
def test_pip_compile_downloads_no_file_for_its_digest(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path, index: str
) -> None:
    upstream.project("px-lib", LIB, FOR_OTHERS, SDIST)
    config = tmp_path / "proxyindex.toml"
    config.write_text(
        f'[[upstream]]\nname = "up"\nurl = "{upstream.simple_url}"\n'
        '[index.root]\nupstreams = ["up"]\n[index.dev]\nupstreams = ["up"]\n'
    )
    running = server("--config", config, is_started=False)
    running.args.remove("--no-upstream")
    running.start()
    bench = Workbench(tmp_path / "bench")
    wanted = bench.folder / "requirements.in"
    wanted.write_text("Px_Lib\n")
    url = f"{running.url}{index and f'/{index}'}/simple/"
    options = ("--quiet", "--generate-hashes", "--strip-extras", "--no-header", "--index-url", url)
    done = bench.run(tool("pip-compile"), *options, "--output-file=-", wanted)
    for spec in (LIB, FOR_OTHERS, SDIST):
        assert f"--hash=sha256:{sha256_of(spec.body)}" in done.stdout
    for spec in (FOR_OTHERS, SDIST):
        assert upstream.count(spec.path) == 0
