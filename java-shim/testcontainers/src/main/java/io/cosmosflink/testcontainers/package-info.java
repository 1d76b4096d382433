/** A local Cosmos DB account in a container, for the tests of jobs that read from or write to Cosmos DB. */
package io.cosmosflink.testcontainers;
