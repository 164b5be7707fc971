# An argument, so that a mirror, a digest or a base made by hand can take the place of the published image.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build

# Argon2 is nearly all that a login costs. The published wheel runs on every x86-64 and makes 53 hashes a second
# where the same source compiled for x86-64-v3 makes 116 (one thread, m=19456, t=2, p=1, medians of seven rounds).
# That needs AVX2, which servers have since 2015 and some small processors still have not: there the image refuses to
# start with a sentence, because of the file built-for-processor (service/processor.py). Build it with
# --build-arg ARGON2_CFLAGS=-O3 for those: it runs everywhere, at the speed of the wheel. Off x86-64 "auto" is that
# already.
ARG ARGON2_CFLAGS=auto

# Not pinned: Debian's archive drops the version that a security update replaces, and the build would stop there.
# hadolint ignore=DL3008
RUN apt-get -o Acquire::Retries=3 update \
    && apt-get -o Acquire::Retries=3 install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# Without pip of its own: the base's installs into it, and nothing of an installer is copied along.
RUN python -m venv --without-pip /opt/keyturn

WORKDIR /src
COPY requirements.txt ./
# No cache: pip files what it compiled under its source alone and would take a build with other flags from there.
# Wheels only, but for the one: anything else that wants a compiler is a mistake, and should say so.
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
# Byte code that is never compared with its source: a copy between stages may change the times of files, and on a
# read-only root stale byte code would be made anew at every start.
RUN python -m pip --python /opt/keyturn/bin/python --disable-pip-version-check install \
        --no-cache-dir --no-compile --no-deps . \
    && /opt/keyturn/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/keyturn/lib


FROM ${BASE}

LABEL org.opencontainers.image.title="Keyturn" \
      org.opencontainers.image.description="A password and a second factor go in, short-lived JSON Web Tokens come out." \
      org.opencontainers.image.licenses="MIT"

# The published base has its standard library without byte code, and a read-only root never gets any: each start
# (0.6 s with these 11 MB, 1.1 s without) and each health check would compile it again.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -x '/(test|tests|idlelib|tkinter|turtledemo|ensurepip|lib2to3|site-packages)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

# The folder belongs to the user before it becomes a volume: a new volume takes its owner and mode from here.
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

# http.client asks the service itself even where the environment names a proxy; at the loopback, unless KEYTURN_HOST is
# one address. Without the database: unhealthy; without Redis: healthy, for the service goes on.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-ISc", "import http.client, os, sys; h = os.environ['KEYTURN_HOST'].strip().strip('[]'); c = http.client.HTTPConnection('127.0.0.1' if h in ('', '0.0.0.0', '::') else h, os.environ['KEYTURN_PORT'], timeout=3); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["keyturn"]
CMD ["serve"]
