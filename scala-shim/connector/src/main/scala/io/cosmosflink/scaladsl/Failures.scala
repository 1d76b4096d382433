package io.cosmosflink.scaladsl

import io.cosmosflink.core.{CosmosException, StateVersions}
import org.apache.flink.runtime.throwable.{ThrowableAnnotation, ThrowableType}
import org.apache.flink.util.FlinkRuntimeException

import java.io.IOException

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

  /** A failure of something that was open. What a restart may mend is an `IOException`, as Flink's readers expect it. */
  def running(what: String, failure: CosmosException): Exception =
    if failure.kind.isFinal(false) then open(what, failure, fresh = false)
    else IOException(s"$what: ${failure.getMessage}", failure)

  /** A failure to read state that a savepoint holds, which is the same after every restart: an `IOException`, as serializers throw it, over
    * the one that stops the job.
    */
  def restore(message: String, failure: Throwable): IOException =
    IOException(message, CosmosDBUnrecoverableException(message, failure))

  /** Refuses state that a newer connector wrote. */
  def checkVersion(what: String, found: Int, newest: Int): Unit =
    try StateVersions.check(what, found, newest)
    catch case e: IOException => throw restore(e.getMessage, e)
