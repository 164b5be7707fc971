# An argument, so that a mirror, a digest or a base of your own can replace the published image.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build

# Argon2 is almost the whole cost of a login. The published wheel runs on every x86-64 and makes 53 hashes per second;
# the same source compiled for x86-64-v3 makes 116 (one thread, m=19456, t=2, p=1, medians of seven rounds). That needs
# AVX2, which servers have had since 2015 and some small processors still lack. On those the image refuses to start and
# prints the reason, because of the file built-for-processor (service/processor.py). For them build the image with
# --build-arg ARGON2_CFLAGS=-O3: it runs everywhere, at the speed of the wheel. On processors other than x86-64, "auto"
# already means that.
ARG ARGON2_CFLAGS=auto

# Not pinned: Debian's archive drops the version that a security update replaces, and then the build would fail.
# hadolint ignore=DL3008
RUN apt-get -o Acquire::Retries=3 update \
    && apt-get -o Acquire::Retries=3 install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# Without pip: that of the base installs into the environment, so no installer is copied to the image.
RUN python -m venv --without-pip /opt/keyturn

WORKDIR /src
COPY requirements.txt ./
# No cache: pip's key for a compiled wheel is its source only, so it would reuse a build with other flags.
# Wheels only, except for argon2: any other package that needs a compiler is a mistake and must fail.
RUN flags="$ARGON2_CFLAGS"; \
    if [ "$flags" = auto ]; then \
        case "$(uname -m)" in x86_64) flags="-O3 -march=x86-64-v3" ;; *) flags="-O3" ;; esac; \
    fi; \
    case "$flags" in \
        *-march=x86-64-v2*) echo x86-64-v2 > /opt/keyturn/built-for-processor ;; \
        *-march=x86-64-v3*) echo x86-64-v3 > /opt/keyturn/built-for-processor ;; \
    esac; \
    CFLAGS="$flags" python -m pip --python /opt/keyturn/bin/python --disable-pip-version-check install \
        --no-cache-dir --no-compile --require-hashes --only-binary :all: --no-binary argon2-cffi-bindings \
        -r requirements.txt

COPY pyproject.toml README.md LICENSE ./
COPY service ./service
# A link in service/ leads to it, because the page at /account is its first user.
COPY clients/browser/keyturn.js ./clients/browser/keyturn.js
# Unchecked byte code: a copy between stages may change the times of files, and on a read-only root Python would compile
# outdated byte code again at every start.
RUN python -m pip --python /opt/keyturn/bin/python --disable-pip-version-check install \
        --no-cache-dir --no-compile --no-deps . \
    && /opt/keyturn/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/keyturn/lib


FROM ${BASE}

LABEL org.opencontainers.image.title="Keyturn" \
      org.opencontainers.image.description="A password and a second factor go in, short-lived JSON Web Tokens come out." \
      org.opencontainers.image.licenses="MIT"

# The published base has no byte code of the standard library, and a read-only root cannot store any: each start (0.6 s
# with these 11 MB, 1.1 s without) and each health check would compile it again.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -x '/(test|tests|idlelib|tkinter|turtledemo|ensurepip|lib2to3|site-packages)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

# The folder belongs to the user before it becomes a volume, because a new volume copies its owner and mode.
RUN useradd --uid 10001 --user-group --no-log-init --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin keyturn \
    && install -d -m 0700 -o 10001 -g 10001 /data

COPY --from=build /opt/keyturn /opt/keyturn

ENV PATH=/opt/keyturn/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    KEYTURN_HOST=0.0.0.0 \
    KEYTURN_PORT=8000 \
    KEYTURN_DATA_DIR=/data

VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM

# A number, because Kubernetes' runAsNonRoot cannot see that a name is not root.
USER 10001:10001

# http.client connects to the service itself even if the environment names a proxy; to the loopback address, unless
# KEYTURN_HOST is a single address. Without the database: unhealthy. Without Redis: healthy, because the service works.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-ISc", "import http.client, os, sys; h = os.environ['KEYTURN_HOST'].strip().strip('[]'); c = http.client.HTTPConnection('127.0.0.1' if h in ('', '0.0.0.0', '::') else h, os.environ['KEYTURN_PORT'], timeout=3); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["keyturn"]
CMD ["serve"]
