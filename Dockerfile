# A service on a CPU. What it serves is mounted, and never part of the image:
#
#     docker build -t louder .
#     docker run -p 8000:8000 -e LOUDER_TOKEN -v "$PWD/runs:/data/runs:ro" -v "$PWD/tables:/data/tables:ro" \
#         -v histories:/data/histories louder runs/shop
#
# Histories are in a volume, which is written by the image's own user; runs and tables are only read.
# compiled here, once, for all processors: the image that is served has neither compiler nor sources
FROM python:3.11-slim AS build

RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PATH=/opt/louder/bin:$PATH

WORKDIR /src
RUN python -m venv /opt/louder

# torch goes first and alone: left to other packages, pip would take a newer one. Its builds for CPUs spare gigabytes of
# CUDA; TORCH_INDEX says where they are: docker build --build-arg TORCH_INDEX=URL .
ARG TORCH_INDEX=
COPY constraints.txt .
RUN PIP_EXTRA_INDEX_URL="$TORCH_INDEX" pip install --constraint constraints.txt torch

# the kernels are compiled with the headers of this torch, so pip need not fetch it a second time
COPY pyproject.toml setup.py build_backend.py README.md LICENSE ./
COPY louder louder
RUN pip install --constraint constraints.txt --no-build-isolation ".[serve]"


FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PATH=/opt/louder/bin:$PATH

COPY --from=build /opt/louder /opt/louder

RUN useradd --system --uid 10001 --create-home louder \
    && mkdir -p /data/runs /data/tables /data/histories \
    && chown -R louder /data
USER louder
WORKDIR /data

# there are kernels for this processor, and they run with this torch
RUN python -c "from louder.ops.build import load_all; assert load_all(), 'there are no kernels'"

VOLUME ["/data/runs", "/data/tables", "/data/histories"]
EXPOSE 8000

# without curl, which the image does not have; a model of millions of items takes a while to load
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]

# the arguments come from the command: docker run louder runs/shop --workers 2
ENTRYPOINT ["louder", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["runs/live"]
