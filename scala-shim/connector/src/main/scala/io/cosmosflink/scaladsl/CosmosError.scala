package io.cosmosflink.scaladsl

import io.cosmosflink.core.CosmosException
import io.cosmosflink.core.CosmosException.Kind

/** A failure of the core or the service as a value. Match on the case, never on the message.
  *
  * {{{
  * options.validated(Role.Sink) match
  *   case Right(checked) => checked
  *   case Left(CosmosError.Config(detail)) => sys.error(detail.message)
  * }}}
  */
enum CosmosError:
  /** An option is unknown, missing or wrong. */
  case Config(detail: CosmosError.Detail)

  /** The key or the identity was refused. */
  case Auth(detail: CosmosError.Detail)
  case NotFound(detail: CosmosError.Detail)

  /** 429 for longer than `cosmos.retry.throttled-deadline-ms`; without that option it is waited for as long as it takes. */
  case Throttled(detail: CosmosError.Detail)

  /** The service could not be reached in time. */
  case Transient(detail: CosmosError.Detail)
  case BadRequest(detail: CosmosError.Detail)

  /** The document exists already. */
  case Conflict(detail: CosmosError.Detail)

  /** The document has another ETag. */
  case Precondition(detail: CosmosError.Detail)
  case TooLarge(detail: CosmosError.Detail)

  /** A call after the end. */
  case Closed(detail: CosmosError.Detail)

  /** Split or state bytes of another kind or a newer version. */
  case State(detail: CosmosError.Detail)

  /** A bug. */
  case Internal(detail: CosmosError.Detail)

  /** A kind that only a newer library knows. */
  case Unknown(detail: CosmosError.Detail)

  def detail: CosmosError.Detail

  def message: String = detail.message

  /** The exception of this failure, for Flink. */
  def toException: CosmosException =
    CosmosException(detail.message, kind, detail.status, detail.subStatus, detail.activityId)

  /** The core's word for the case. */
  def kind: Kind = this match
    case Config(_) => Kind.CONFIG
    case Auth(_) => Kind.AUTH
    case NotFound(_) => Kind.NOT_FOUND
    case Throttled(_) => Kind.THROTTLED
    case Transient(_) => Kind.TRANSIENT
    case BadRequest(_) => Kind.BAD_REQUEST
    case Conflict(_) => Kind.CONFLICT
    case Precondition(_) => Kind.PRECONDITION
    case TooLarge(_) => Kind.TOO_LARGE
    case Closed(_) => Kind.CLOSED
    case State(_) => Kind.STATE
    case Internal(_) => Kind.INTERNAL
    case Unknown(_) => Kind.UNKNOWN

object CosmosError:
  /** @param status
    *   HTTP status of the service, 0 if it never answered
    * @param subStatus
    *   the service's sub-status, 0 for none
    * @param activityId
    *   the service's name for the request, for a support case; empty for none
    */
  final case class Detail(message: String, status: Int = 0, subStatus: Int = 0, activityId: String = "")

  def apply(kind: Kind, detail: Detail): CosmosError = kind match
    case Kind.CONFIG => Config(detail)
    case Kind.AUTH => Auth(detail)
    case Kind.NOT_FOUND => NotFound(detail)
    case Kind.THROTTLED => Throttled(detail)
    case Kind.TRANSIENT => Transient(detail)
    case Kind.BAD_REQUEST => BadRequest(detail)
    case Kind.CONFLICT => Conflict(detail)
    case Kind.PRECONDITION => Precondition(detail)
    case Kind.TOO_LARGE => TooLarge(detail)
    case Kind.CLOSED => Closed(detail)
    case Kind.STATE => State(detail)
    case Kind.INTERNAL => Internal(detail)
    case Kind.UNKNOWN => Unknown(detail)

  def of(e: CosmosException): CosmosError =
    apply(e.kind, Detail(e.getMessage, e.status, e.subStatus, e.activityId))

  /** What the core throws, as a value; anything else is thrown on. */
  def attempt[A](body: => A): Either[CosmosError, A] =
    try Right(body)
    catch case e: CosmosException => Left(of(e))
