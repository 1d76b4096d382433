package io.cosmosflink.scaladsl

import org.apache.flink.core.execution.JobClient
import org.apache.flink.metrics.Gauge
import org.apache.flink.runtime.testutils.InMemoryReporter

import scala.jdk.CollectionConverters.*

/** What a reporter has of the gauges of a job. */
object Gauges:
  /** All of these together.
    *
    * @param names
    *   an expression for their whole names
    */
  def sum(reporter: InMemoryReporter, job: JobClient, names: String): Double =
    reporter
      .findMetrics(job.getJobID, names)
      .values
      .asScala
      .map {
        case gauge: Gauge[?] => gauge.getValue.asInstanceOf[Number].doubleValue
        case other => throw IllegalArgumentException(s"$other is no gauge")
      }
      .sum
