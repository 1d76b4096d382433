package io.cosmosflink.scaladsl

import io.cosmosflink.core.{Core, CosmosException, Finality, StateVersions}
import org.apache.flink.annotation.PublicEvolving
import org.apache.flink.runtime.throwable.{ThrowableAnnotation, ThrowableType}
import org.apache.flink.util.FlinkRuntimeException

import java.io.IOException

/** A failure that a restart does not mend: wrong options, a missing container, a refused key at the start of a job. */
@PublicEvolving
@ThrowableAnnotation(ThrowableType.NonRecoverableError)
final class CosmosDBUnrecoverableException private[scaladsl] (message: String, cause: Throwable)
    extends RuntimeException(message, cause)

/** Failures of the core in the words of Flink. */
private[scaladsl] object Failures:
  /** A failure to open something. */
  def open(what: String, failure: Throwable, finality: Finality): RuntimeException =
    val message = s"$what: ${failure.getMessage}"
    failure match
      case e: CosmosException if finality.isFinal(e) => CosmosDBUnrecoverableException(message, e)
      case e => FlinkRuntimeException(message, e)

  /** A failure of something that was open. What a restart may mend is an `IOException`, as Flink's readers expect it. */
  def running(what: String, failure: CosmosException, finality: Finality): Exception =
    if finality.isFinal(failure) then open(what, failure, finality)
    else IOException(s"$what: ${failure.getMessage}", failure)

  /** The core, where a task or the enumerator runs: one that does not fit this machine will not after a restart. */
  def core(core: Core.Provider): Core =
    try core.get()
    catch
      case e: UnsatisfiedLinkError =>
        val message = s"cannot load the native core: ${e.getMessage}"
        throw if Finality.isFinal(e) then CosmosDBUnrecoverableException(message, e)
        else FlinkRuntimeException(message, e)

  /** A failure to read state that a savepoint holds, which is the same after every restart: an `IOException`, as serializers throw it, over
    * the one that stops the job.
    */
  def restore(message: String, failure: Throwable): IOException =
    IOException(message, CosmosDBUnrecoverableException(message, failure))

  /** Refuses state that a newer connector wrote. */
  def checkVersion(what: String, found: Int, newest: Int): Unit =
    try StateVersions.check(what, found, newest)
    catch case e: IOException => throw restore(e.getMessage, e)
