# Any image with Python 3.11 or newer and its venv module will do.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# for builds behind a mirror: --build-arg PIP_INDEX_URL=… --build-arg PIP_CERT=…
ARG PIP_INDEX_URL
ARG PIP_CERT
WORKDIR /src
# Only files whose digests are in the two lists are installed, here and into the image, wherever
# they come from. `scripts/lock` makes the lists.
COPY deploy/requirements.txt deploy/requirements-build.txt ./deploy/
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r deploy/requirements-build.txt \
 && python3 -m venv --without-pip /opt/proxyindex \
 && /opt/build/bin/pip --python /opt/proxyindex/bin/python install --no-cache-dir \
      --require-hashes -r deploy/requirements.txt
COPY pyproject.toml README.md ./
COPY src ./src
RUN /opt/build/bin/pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation \
      --wheel-dir /wheels . \
 && /opt/proxyindex/bin/pip install --no-cache-dir --no-index --no-deps /wheels/*.whl \
 && /opt/proxyindex/bin/pip check \
 && /opt/proxyindex/bin/python -m compileall -q /opt/proxyindex/lib

FROM ${BASE}
LABEL org.opencontainers.image.title="proxyindex" \
      org.opencontainers.image.description="Caching PyPI fall-through proxy and private package index" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/proxyindex /opt/proxyindex
# A number, so that "must not be root" can be checked without reading the image's user list.
# New volumes take over the owner of the folder they cover.
RUN mkdir /packages /cache /state && chown 10001:10001 /packages /cache /state
# the path of a file, not a token
# hadolint ignore=DL3064
ENV PATH=/opt/proxyindex/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PROXYINDEX_HOST=0.0.0.0 \
    PROXYINDEX_PORT=8080 \
    PROXYINDEX_CACHE_DIR=/cache \
    PROXYINDEX_TOKENS=/state/tokens.json
USER 10001:10001
WORKDIR /
VOLUME ["/packages", "/cache", "/state"]
EXPOSE 8080
# Not urllib: it would send the question through the proxy of HTTP_PROXY.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PROXYINDEX_PORT']), timeout=4); c.request('GET', os.environ.get('PROXYINDEX_BASE_PATH', '') + '/health'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["proxyindex"]
CMD ["serve", "/packages"]
