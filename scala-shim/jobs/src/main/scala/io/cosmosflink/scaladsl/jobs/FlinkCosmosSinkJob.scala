package io.cosmosflink.scaladsl.jobs

/** Entry point of the primary job, [[OrderProcessing]]. The name is the one that clusters and scripts submit. */
object FlinkCosmosSinkJob:

  /** `--name value` pairs over the environment; see `docs/configuration.md`. */
  def main(arguments: Array[String]): Unit = JobSettings.run(OrderProcessing.name, arguments)(OrderProcessing.define)
