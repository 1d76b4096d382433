package io.cosmosflink.scaladsl

import org.apache.flink.annotation.PublicEvolving
import io.cosmosflink.core.CosmosException
import io.cosmosflink.core.CosmosException.Kind

/** A failure of the core or the service as a value. Decide by its kind, never by its message; the kinds are the core's own.
  *
  * {{{
  * import io.cosmosflink.core.CosmosException.Kind
  *
  * options.validated(Role.SINK) match
  *   case Right(checked) => checked
  *   case Left(CosmosError(Kind.CONFIG, message)) => sys.error(message)
  *   case Left(other) => throw other.toException
  * }}}
  *
  * @param status
  *   HTTP status of the service, 0 if it never answered
  * @param subStatus
  *   the service's sub-status, 0 for none
  * @param activityId
  *   the service's name for the request, for a support case; empty for none
  */
@PublicEvolving
final case class CosmosError(
    kind: Kind,
    message: String,
    status: Int = 0,
    subStatus: Int = 0,
    activityId: String = ""
):
  /** The exception of this failure, for Flink. */
  def toException: CosmosException = CosmosException(message, kind, status, subStatus, activityId)

object CosmosError:
  /** What one looks for in a failure; the rest is in its fields. */
  def unapply(error: CosmosError): (Kind, String) = (error.kind, error.message)

  def of(e: CosmosException): CosmosError = CosmosError(e.kind, e.getMessage, e.status, e.subStatus, e.activityId)

  /** What the core throws, as a value; anything else is thrown on. */
  def attempt[A](body: => A): Either[CosmosError, A] =
    try Right(body)
    catch case e: CosmosException => Left(of(e))
