# Flink where no registry can be reached; see flink.sh. Same user, folders and ports as the official image.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
RUN groupadd --system --gid 9999 flink && useradd --system --home-dir /opt/flink --uid 9999 --gid flink flink
ENV FLINK_HOME=/opt/flink JAVA_HOME=/opt/java PATH=/opt/java/bin:$PATH
COPY jre/ /opt/java/
COPY lib/ /opt/flink/lib/
COPY flink-entrypoint.sh /docker-entrypoint.sh
COPY log4j.properties /opt/flink/conf/
RUN mkdir -p /opt/flink/usrlib /opt/flink/tmp && chown -R flink:flink /opt/flink/conf /opt/flink/tmp
WORKDIR /opt/flink
USER flink
EXPOSE 6123 8081
ENTRYPOINT ["/docker-entrypoint.sh"]
CMD ["help"]
