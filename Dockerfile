# One image for every process of the portal; docker-compose.yml says which one a container runs.
FROM python:3.13.11-slim@sha256:2b9c9803c6a287cafa0a8c917211dddd23dcd2016f049690ee5219f5d3f1636e AS packages
COPY requirements.txt .
RUN python -m venv /packages \
    && /packages/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.txt

FROM python:3.13.11-slim@sha256:2b9c9803c6a287cafa0a8c917211dddd23dcd2016f049690ee5219f5d3f1636e
ARG VERSION=0 REVISION=
LABEL org.opencontainers.image.title=wkportal \
    org.opencontainers.image.description="Keeps WeChat accounts logged in through the WKTeam API" \
    org.opencontainers.image.version=$VERSION \
    org.opencontainers.image.revision=$REVISION
ENV PATH=/packages/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    VAR_DIR=/tmp
# pg_dump and pg_restore for backup and restore, of the version that docker-compose.yml names: Debian's own is older.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends postgresql-common ca-certificates \
    && /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y \
    && apt-get install -y -qq --no-install-recommends postgresql-client-18 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin wkportal
COPY --from=packages /packages /packages
WORKDIR /wkportal
COPY manage.py ./
COPY wkportal wkportal
COPY accounts accounts
COPY templates templates
COPY static static
COPY locale locale
COPY docs/operations.md docs/operations.md
# Collecting needs settings that can be read, not real ones: these stay in this one line.
RUN SECRET_KEY=only-for-collecting-static-files-0123456789 WK_BASE_URL=http://localhost WK_AUTHORIZATION=none \
    python manage.py collectstatic --noinput --verbosity 0 \
    && python -m compileall -q manage.py wkportal accounts
USER wkportal
EXPOSE 8000
STOPSIGNAL SIGTERM
# The health check asks by this name, so ALLOWED_HOSTS has to hold it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["python", "manage.py", "serve", "--host", "0.0.0.0", "--port", "8000", "--trusted-proxies", "1"]
