package io.cosmosflink.scaladsl

import io.cosmosflink.core.DatasetName
import org.apache.flink.api.connector.source.Boundedness
import org.apache.flink.streaming.api.lineage.{LineageDataset, LineageDatasetFacet, LineageVertex, SourceLineageVertex}

import java.util.{List as JavaList, Map as JavaMap}

/** What a source reads and a sink writes, for tools that follow data from job to job. */
private[scaladsl] object Lineage:
  def ofSource(options: CosmosDBOptions, bounds: Boundedness): SourceLineageVertex = new SourceLineageVertex:
    override val datasets: JavaList[LineageDataset] = JavaList.of(container(options))
    override val boundedness: Boundedness = bounds

  def ofSink(options: CosmosDBOptions): LineageVertex = new LineageVertex:
    override val datasets: JavaList[LineageDataset] = JavaList.of(container(options))

  private def container(options: CosmosDBOptions): LineageDataset = new LineageDataset:
    private val dataset = DatasetName.of(options.toJava)
    override def namespace: String = dataset.namespace
    override def name: String = dataset.name
    override val facets: JavaMap[String, LineageDatasetFacet] = JavaMap.of()
