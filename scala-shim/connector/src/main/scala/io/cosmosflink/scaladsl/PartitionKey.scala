package io.cosmosflink.scaladsl

import io.cosmosflink.core.PartitionKeys
import org.apache.flink.annotation.PublicEvolving
import org.apache.flink.api.common.typeinfo.Types

import scala.annotation.implicitNotFound

/** A partition key: the JSON array of its components in the order of the container's paths, such as `["eu"]` or `["tenant",7,null]`. */
opaque type PartitionKey = String

@PublicEvolving
object PartitionKey:
  /** A key of one component. */
  def apply[A: KeyPart](part: A): PartitionKey = PartitionKeys.json(KeyPart[A].of(part))

  /** A hierarchical key of two components. */
  def apply[A: KeyPart, B: KeyPart](first: A, second: B): PartitionKey =
    PartitionKeys.json(KeyPart[A].of(first), KeyPart[B].of(second))

  /** A hierarchical key of three components, the most that the service has. */
  def apply[A: KeyPart, B: KeyPart, C: KeyPart](first: A, second: B, third: C): PartitionKey =
    PartitionKeys.json(KeyPart[A].of(first), KeyPart[B].of(second), KeyPart[C].of(third))

  /** The key of every document in a container without partition key paths. */
  val none: PartitionKey = PartitionKeys.NONE

  /** The component of a document that has no value at a path of the key. It is not null, which is a value: the service keeps documents
    * without a value, and documents whose value is null, under two different keys.
    */
  val undefined: PartitionKeys.Undefined = PartitionKeys.UNDEFINED

  /** For derived keys; see [[KeyPart]]. */
  def ofParts(parts: (AnyRef | Null)*): PartitionKey = PartitionKeys.json(parts*)

  /** The key that this text already is, as the feed gives it. */
  def ofJson(json: String): PartitionKey = json

  extension (key: PartitionKey) def json: String = key

  given FlinkType[PartitionKey] = FlinkType.of(Types.STRING)

/** What can be a component of a partition key: strings, numbers, booleans, null, [[PartitionKey.undefined]], and `Option` of them. `None` is
  * undefined, because a derived encoder leaves its field out.
  */
@PublicEvolving
@implicitNotFound(
  "${T} cannot be a component of a partition key; it must be a String, a number, a Boolean, null, PartitionKey.undefined or an Option of one"
)
trait KeyPart[T] extends Serializable:
  /** A string, a boxed number, a boxed boolean, null or [[PartitionKey.undefined]]. */
  def of(value: T): AnyRef | Null

object KeyPart:
  def apply[T](using part: KeyPart[T]): KeyPart[T] = part

  private def boxed[T]: KeyPart[T] = new KeyPart[T]:
    def of(value: T): AnyRef | Null = value.asInstanceOf[AnyRef]

  given KeyPart[String] = boxed
  given KeyPart[Int] = boxed
  given KeyPart[Long] = boxed
  given KeyPart[Double] = boxed
  given KeyPart[Boolean] = boxed
  given KeyPart[BigDecimal] = new KeyPart[BigDecimal]:
    def of(value: BigDecimal): AnyRef | Null = value.bigDecimal
  given KeyPart[Null] = boxed
  given KeyPart[PartitionKeys.Undefined] = boxed
  given [T: KeyPart]: KeyPart[Option[T]] = new KeyPart[Option[T]]:
    def of(value: Option[T]): AnyRef | Null = value.fold(PartitionKeys.UNDEFINED)(KeyPart[T].of)
