package io.cosmosflink.connector.cosmosdb;

import org.apache.flink.api.connector.source.SourceEvent;

/** A reader tells its enumerator that it has read all of its splits, and gets no others. */
record FinishedEvent() implements SourceEvent {}
