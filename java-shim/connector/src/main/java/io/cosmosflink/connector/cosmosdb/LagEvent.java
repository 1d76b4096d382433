package io.cosmosflink.connector.cosmosdb;

import org.apache.flink.api.connector.source.SourceEvent;

/**
 * A reader tells its enumerator how far it is behind.
 *
 * @param lagMillis not negative
 */
record LagEvent(long lagMillis) implements SourceEvent {}
