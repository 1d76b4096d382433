# The same images from what was built on this machine. Context: a folder with the binaries, both job jars and init.sh, which
# `infra/images/prebuilt.sh` prepares. The machine's glibc must not be newer than that of BASE_IMAGE and of the Flink image.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE} AS base
RUN [ -e /etc/ssl/certs/ca-certificates.crt ] || { apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*; }
USER 9999:9999

FROM base AS cosmos-local
COPY cosmos-local /usr/local/bin/
EXPOSE 8081
ENTRYPOINT ["cosmos-local"]

FROM base AS producer
COPY cosmosflink-producer /usr/local/bin/
ENTRYPOINT ["cosmosflink-producer"]

FROM base AS consumer
COPY cosmosflink-consumer /usr/local/bin/
EXPOSE 8090 8091
ENTRYPOINT ["cosmosflink-consumer"]

FROM base AS init
COPY cosmosflink-init cosmosflink /usr/local/bin/
COPY jobs-java.jar jobs-scala.jar /opt/cosmosflink/
COPY init.sh /usr/local/bin/init.sh
ENTRYPOINT ["init.sh"]
