# Two images, both of the wheel that the first stage builds.
#
#     docker build --target runtime --tag scopenet-runtime .    # exported detectors, from Python
#     docker build --target cuda --tag scopenet-cuda .          # everything, on NVIDIA GPUs

FROM python:3.12-slim AS wheel
COPY setup.py pyproject.toml MANIFEST.in README.md LICENSE /source/
COPY scopenet /source/scopenet
COPY configs /source/configs
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:3.12-slim AS runtime
COPY --from=wheel /wheels /wheels
# Instead of the wheel's own dependencies, of which PyTorch is the largest.
RUN pip install --no-cache-dir numpy==2.5.5 onnxruntime==1.32.0 openvino==2026.4.1 pillow==13.0.0 \
    && pip install --no-cache-dir --no-deps /wheels/*.whl \
    && useradd --create-home --uid 1000 scopenet
USER 1000
WORKDIR /home/scopenet
CMD ["python"]

FROM python:3.12-slim AS environment
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /wheels /wheels
COPY Makefile requirements-detectron2.txt /source/
# PyPI's PyTorch brings CUDA with it: of the machine it needs the driver alone.
RUN python -m venv /opt/scopenet \
    && /opt/scopenet/bin/pip install --no-cache-dir /wheels/*.whl \
    && make -C /source detectron2 VENV=/opt/scopenet

FROM python:3.12-slim AS cuda
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 libx11-6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 scopenet
COPY --from=environment /opt/scopenet /opt/scopenet
ENV PATH=/opt/scopenet/bin:$PATH NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /home/scopenet
ENTRYPOINT ["scopenet"]
CMD ["--help"]
