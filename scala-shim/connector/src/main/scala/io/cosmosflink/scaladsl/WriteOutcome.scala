package io.cosmosflink.scaladsl

import io.cosmosflink.core.Outcome

/** What became of a write. */
private[scaladsl] enum WriteOutcome:
  case Written

  /** Failed and counted; the job goes on. */
  case Skipped(error: CosmosError)

  /** Failed and stored in the dead-letter container. */
  case DeadLettered(error: CosmosError)

  /** Fails the job. */
  case Failed(error: CosmosError)

private[scaladsl] object WriteOutcome:
  def of(outcome: Outcome): WriteOutcome = outcome.result match
    case Outcome.Result.OK => Written
    case Outcome.Result.SKIPPED => Skipped(error(outcome))
    case Outcome.Result.DEAD_LETTERED => DeadLettered(error(outcome))
    case Outcome.Result.FAILED => Failed(error(outcome))

  private def error(outcome: Outcome): CosmosError =
    CosmosError(outcome.kind, outcome.message, outcome.status, outcome.subStatus, outcome.activityId)
