package io.cosmosflink.scaladsl

import io.cosmosflink.core.CosmosException
import org.apache.flink.runtime.throwable.{ThrowableAnnotation, ThrowableType}
import org.apache.flink.util.FlinkRuntimeException

/** A failure that a restart does not mend: wrong options, a missing container, a refused key at the start of a job. */
@ThrowableAnnotation(ThrowableType.NonRecoverableError)
final class CosmosDBUnrecoverableException private[scaladsl] (message: String, cause: Throwable)
    extends RuntimeException(message, cause)

/** Failures of the core in the words of Flink. */
private[scaladsl] object Failures:
  /** A failure to open something.
    *
    * @param fresh
    *   whether the job has only begun
    */
  def open(what: String, failure: Throwable, fresh: Boolean): RuntimeException =
    val message = s"$what: ${failure.getMessage}"
    failure match
      case e: CosmosException if e.kind.isFinal(fresh) => CosmosDBUnrecoverableException(message, e)
      case e => FlinkRuntimeException(message, e)
