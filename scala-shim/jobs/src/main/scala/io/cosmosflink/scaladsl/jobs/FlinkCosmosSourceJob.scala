package io.cosmosflink.scaladsl.jobs

/** Entry point of the secondary job, [[OrderDelivery]]. The name is the one that clusters and scripts submit. */
object FlinkCosmosSourceJob:

  /** `--name value` pairs over the environment; see `docs/configuration.md`. */
  def main(arguments: Array[String]): Unit = JobSettings.run(OrderDelivery.name, arguments)(OrderDelivery.define)
