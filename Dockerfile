# syntax=docker/dockerfile:1
# The studio in a container: docs/servers.md, "Container".
#   docker build -t hscaunet .                       on a CPU
#   docker build -t hscaunet --build-arg DEVICE=cuda .
FROM python:3.11-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
ARG DEVICE=cpu
COPY --from=build /wheels /wheels
COPY constraints.txt /wheels/
# ONNX Runtime for CUDA finds CUDA and cuDNN as packages; the driver comes from the host.
RUN wheel=$(echo /wheels/*.whl) \
    && case "$DEVICE" in \
        cpu) pip install --no-cache-dir -c /wheels/constraints.txt "${wheel}[cpu,openvino,studio,heif,film]" ;; \
        cuda) pip install --no-cache-dir -c /wheels/constraints.txt "${wheel}[gpu,studio,heif,film]" "onnxruntime-gpu[cuda,cudnn]" ;; \
        *) echo "DEVICE is cpu or cuda, not $DEVICE" >&2; exit 1 ;; \
    esac \
    && rm -rf /wheels \
    && useradd --uid 10001 --no-create-home --home-dir /tmp studio
# No secret: the word "new" makes one at each start, and the page's address is printed with it.
# hadolint ignore=DL3064
ENV HSCAUNET_TOKEN=new \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /tmp
EXPOSE 8642
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8642, timeout=4); c.request('GET', '/healthz'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m"]
CMD ["runtime.studio", "--host", "0.0.0.0", "--port", "8642", "--no-browser"]
