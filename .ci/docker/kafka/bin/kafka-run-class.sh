#!/usr/bin/env bash
# kafka-run-class.sh CLASS [ARGUMENT...], with the variables of Kafka's own script that the image's users know.
# Word splitting is what these variables are for.
# shellcheck disable=SC2086
exec java ${KAFKA_HEAP_OPTS:--Xmx256m} ${KAFKA_JVM_PERFORMANCE_OPTS:--server -XX:+UseG1GC -XX:MaxGCPauseMillis=20} \
  ${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=/etc/kafka/docker/tools-log4j2.yaml} -Djava.awt.headless=true \
  ${KAFKA_OPTS:-} -cp '/opt/kafka/libs/*' "$@"
