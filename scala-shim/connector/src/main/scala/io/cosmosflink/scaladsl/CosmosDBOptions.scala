package io.cosmosflink.scaladsl

import org.apache.flink.annotation.PublicEvolving
import io.cosmosflink.core.Core.Role
import io.cosmosflink.core.CosmosException.Kind
import io.cosmosflink.core.{Core, Finality, NativeCore, OptionText}

import java.time.Duration

import scala.jdk.CollectionConverters.*

/** Options of a source, a sink or a job: a flat map with the names of `docs/configuration.md`. What is secret never shows in
  * `toString`. The core checks the values and knows the defaults; [[validated]] is the only place that fills them in.
  *
  * @param values
  *   by name, secrets included
  */
@PublicEvolving
final case class CosmosDBOptions(values: Map[String, String]):
  /** The same with some options more, or other values for them. */
  def +(options: (String, String)*): CosmosDBOptions = CosmosDBOptions(values ++ options)

  /** These, and those of `others` on top. */
  def ++(others: CosmosDBOptions): CosmosDBOptions = CosmosDBOptions(values ++ others.values)

  def get(name: String): Option[String] = values.get(name)

  /** Of a source: the rows of a SQL query in place of the change feed. Each feed range answers for itself; with `ORDER BY`, `DISTINCT`, `TOP` or
    * `OFFSET LIMIT` one reader reads it all. Aggregates and `GROUP BY` are refused: they are Flink's.
    *
    * @param parameters
    *   by name, such as `"@least" -> Json.num(100)`
    */
  def withQuery(sql: String, parameters: (String, Json)*): CosmosDBOptions =
    val query = this + ("scan.query" -> sql)
    if parameters.isEmpty then query else query + ("scan.query-parameters" -> Json.obj(parameters*).toString)

  /** Of a source: documents by id and partition key in place of the change feed. One that is not there is passed over. A long list is better
    * given as a file (`scan.read-many-file`), since this one travels in the job graph.
    */
  def withReadMany(keys: (String, PartitionKey)*): CosmosDBOptions =
    val each = keys.map((id, key) => s"""{"id":${Json.Str(id)},"partitionKey":${key.json}}""")
    this + ("scan.read-many" -> each.mkString("[", ",", "]"))

  /** Of a source: request units per second that all its readers may use together for pages, in the long run; 0 does not limit them. */
  def withRequestUnitsPerSecond(units: Long): CosmosDBOptions =
    this + ("scan.request-units-per-second" -> units.toString)

  /** Of a source: lag of a reader from which on Flink is told that the source processes a backlog; zero never tells, nor does a source that
    * ends.
    */
  def withBacklogThreshold(lag: Duration): CosmosDBOptions =
    this + ("scan.backlog-threshold" -> lag.toMillis.toString)

  /** A value that must be there. */
  def require(name: String): Either[CosmosError, String] =
    get(name).toRight(CosmosDBOptions.config(s"option '$name' has no value; set it"))

  /** A whole number that must be there. */
  def number(name: String): Either[CosmosError, Long] =
    require(name).flatMap: value =>
      value.toLongOption.toRight(CosmosDBOptions.config(s"option '$name' is '$value', not a whole number"))

  /** Checked by the core, with its defaults filled in; a [[CosmosError]] of kind CONFIG when an option is unknown, missing or wrong. */
  def validated(role: Role): Either[CosmosError, CosmosDBOptions] = validated(NativeCore.get(), role)

  private[scaladsl] def validated(core: Core, role: Role): Either[CosmosError, CosmosDBOptions] =
    CosmosError.attempt(CosmosDBOptions.of(core.validateOptions(role, values.asJava)))

  /** Like [[validated]], for a task or the enumerator: a wrong option ends the job for good, because it is the same after a restart. */
  private[scaladsl] def validatedOnCluster(core: Core, role: Role): CosmosDBOptions =
    validated(core, role).fold(
      e => throw Failures.open("the options are not right", e.toException, Finality.of(toJava, false)),
      identity
    )

  /** Like [[validated]], but where this process has no core (a client on another platform than the cluster) the options stay as they are
    * and the cluster checks them.
    */
  private[scaladsl] def validatedIfPossible(
      core: Core.Provider,
      role: Role
  ): Either[CosmosError, CosmosDBOptions] =
    CosmosDBOptions.coreOf(core).fold(Right(this))(validated(_, role))

  /** For messages. */
  private[scaladsl] def container: String = values.getOrElse("container", "?")

  /** A number that validation has made sure of. */
  private[scaladsl] def checked(name: String): Long = number(name).fold(e => throw e.toException, identity)

  private[scaladsl] def toJava: java.util.Map[String, String] = values.asJava

  override def toString: String = s"CosmosDBOptions${OptionText.of(toJava)}"

object CosmosDBOptions:
  val empty: CosmosDBOptions = CosmosDBOptions(Map.empty)

  def apply(options: (String, String)*): CosmosDBOptions = CosmosDBOptions(options.toMap)

  /** Options from a job's arguments and environment. An argument is named by option (`database`) or by variable (`COSMOS_DB`) and
    * goes before the environment. `Left` of kind CONFIG for an unknown argument or a bad value.
    */
  def resolve(arguments: Map[String, String], environment: Map[String, String]): Either[CosmosError, CosmosDBOptions] =
    CosmosError.attempt(of(NativeCore.get().resolveOptions(arguments.asJava, environment.asJava)))

  private[scaladsl] def of(values: java.util.Map[String, String]): CosmosDBOptions =
    CosmosDBOptions(values.asScala.toMap)

  private def config(message: String): CosmosError = CosmosError(Kind.CONFIG, message)

  private def coreOf(core: Core.Provider): Option[Core] =
    try Some(core.get())
    catch case _: UnsatisfiedLinkError => None
