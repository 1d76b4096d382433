package io.cosmosflink.scaladsl

import io.cosmosflink.core.StateVersions
import org.apache.flink.annotation.Internal
import org.apache.flink.api.common.ExecutionConfig
import org.apache.flink.api.common.serialization.SerializerConfig
import org.apache.flink.api.common.typeinfo.TypeInformation
import org.apache.flink.api.common.typeutils.{
  SimpleTypeSerializerSnapshot,
  TypeSerializer,
  TypeSerializerSchemaCompatibility,
  TypeSerializerSnapshot
}
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton
import org.apache.flink.core.memory.{DataInputView, DataOutputView}

import java.io.IOException
import java.math.{BigDecimal as JavaDecimal, BigInteger}
import java.time.Duration
import java.util.UUID

import scala.annotation.unused
import scala.util.hashing.MurmurHash3

/** What Flink wants to know about a type beside its serializer. */
final private[scaladsl] class ScalaTypeInfo[T](clazz: Class[T], serializer: TypeSerializer[T], key: Boolean)
    extends TypeInformation[T]:
  override def isBasicType: Boolean = false
  override def isTupleType: Boolean = false
  override def getArity: Int = 1
  override def getTotalFields: Int = 1
  override def getTypeClass: Class[T] = clazz
  override def isKeyType: Boolean = key
  override def createSerializer(config: SerializerConfig): TypeSerializer[T] = serializer.duplicate()

  /** Flink 1.20 asks in this way and implements no other. Flink 2 has no such method, so nothing is overridden. */
  def createSerializer(@unused config: ExecutionConfig): TypeSerializer[T] = serializer.duplicate()
  override def canEqual(other: Any): Boolean = other.isInstanceOf[ScalaTypeInfo[?]]
  override def equals(other: Any): Boolean = other match
    case that: ScalaTypeInfo[?] => clazz == that.getTypeClass && serializer == that.created
    case _ => false
  override def hashCode: Int = clazz.hashCode
  override def toString: String = clazz.getSimpleName
  private def created = serializer

/** A serializer of immutable values without configuration. */
abstract private[scaladsl] class SimpleSerializer[T] extends TypeSerializerSingleton[T]:
  final override def isImmutableType: Boolean = true
  final override def createInstance(): T = null.asInstanceOf[T]
  final override def copy(from: T): T = from
  final override def copy(from: T, reuse: T): T = from
  override def getLength: Int = -1
  final override def deserialize(reuse: T, in: DataInputView): T = deserialize(in)
  override def copy(in: DataInputView, out: DataOutputView): Unit = serialize(deserialize(in), out)

  final protected def writeBytes(bytes: Array[Byte], out: DataOutputView): Unit =
    out.writeInt(bytes.length)
    out.write(bytes)

  final protected def readBytes(in: DataInputView): Array[Byte] =
    val bytes = new Array[Byte](in.readInt())
    in.readFully(bytes)
    bytes

@Internal
object BigDecimalSerializer extends SimpleSerializer[BigDecimal]:
  override def serialize(value: BigDecimal, out: DataOutputView): Unit =
    writeBytes(value.bigDecimal.unscaledValue.toByteArray, out)
    out.writeInt(value.scale)
  override def deserialize(in: DataInputView): BigDecimal =
    BigDecimal(JavaDecimal(BigInteger(readBytes(in)), in.readInt()))
  override def snapshotConfiguration(): TypeSerializerSnapshot[BigDecimal] = BigDecimalSnapshot()

@Internal
final class BigDecimalSnapshot extends SimpleTypeSerializerSnapshot[BigDecimal](() => BigDecimalSerializer)

@Internal
object BigIntSerializer extends SimpleSerializer[BigInt]:
  override def serialize(value: BigInt, out: DataOutputView): Unit = writeBytes(value.toByteArray, out)
  override def deserialize(in: DataInputView): BigInt = BigInt(readBytes(in))
  override def snapshotConfiguration(): TypeSerializerSnapshot[BigInt] = BigIntSnapshot()

@Internal
final class BigIntSnapshot extends SimpleTypeSerializerSnapshot[BigInt](() => BigIntSerializer)

@Internal
object UuidSerializer extends SimpleSerializer[UUID]:
  override def getLength: Int = 16
  override def serialize(value: UUID, out: DataOutputView): Unit =
    out.writeLong(value.getMostSignificantBits)
    out.writeLong(value.getLeastSignificantBits)
  override def deserialize(in: DataInputView): UUID = UUID(in.readLong(), in.readLong())
  override def snapshotConfiguration(): TypeSerializerSnapshot[UUID] = UuidSnapshot()

@Internal
final class UuidSnapshot extends SimpleTypeSerializerSnapshot[UUID](() => UuidSerializer)

@Internal
object DurationSerializer extends SimpleSerializer[Duration]:
  override def getLength: Int = 12
  override def serialize(value: Duration, out: DataOutputView): Unit =
    out.writeLong(value.getSeconds)
    out.writeInt(value.getNano)
  override def deserialize(in: DataInputView): Duration = Duration.ofSeconds(in.readLong(), in.readInt().toLong)
  override def snapshotConfiguration(): TypeSerializerSnapshot[Duration] = DurationSnapshot()

@Internal
final class DurationSnapshot extends SimpleTypeSerializerSnapshot[Duration](() => DurationSerializer)

/** Bytes that nobody changes, so that Flink need not copy them from operator to operator. The format is Flink's own. */
@Internal
object SharedBytesSerializer extends SimpleSerializer[Array[Byte]]:
  override def serialize(value: Array[Byte], out: DataOutputView): Unit = writeBytes(value, out)
  override def deserialize(in: DataInputView): Array[Byte] = readBytes(in)
  override def snapshotConfiguration(): TypeSerializerSnapshot[Array[Byte]] = SharedBytesSnapshot()

@Internal
final class SharedBytesSnapshot extends SimpleTypeSerializerSnapshot[Array[Byte]](() => SharedBytesSerializer)

/** The document's text. */
@Internal
object JsonSerializer extends SimpleSerializer[Json]:
  override def serialize(value: Json, out: DataOutputView): Unit = writeBytes(value.bytes, out)
  override def deserialize(in: DataInputView): Json =
    Json.parse(readBytes(in)).fold(e => throw IOException(s"a stored document is damaged: ${e.message}"), identity)
  override def snapshotConfiguration(): TypeSerializerSnapshot[Json] = JsonSnapshot()

@Internal
final class JsonSnapshot extends SimpleTypeSerializerSnapshot[Json](() => JsonSerializer)

/** Types of the standard library that hold others. The names are in savepoints. */
@Internal
enum Container:
  case Optional, Linked, Indexed, Sequence, Distinct, Mapping, Pair, Choice

  /** How many values there are behind a head. */
  private[scaladsl] def count(head: Int): Int = this match
    case Pair => 2
    case Choice => 1
    case Mapping => 2 * head
    case _ => head

  /** Which part the value at a place is. */
  private[scaladsl] def part(head: Int, at: Int): Int = this match
    case Pair | Mapping => at % 2
    case Choice => head
    case _ => 0

  /** The head and the values of a container. */
  private[scaladsl] def take(container: Any): (Int, Iterator[Any]) = container match
    case option: Option[?] => (option.size, option.iterator)
    case map: Map[?, ?] => (map.size, map.iterator.flatMap((k, v) => Iterator(k, v)))
    case many: Iterable[?] => (many.size, many.iterator)
    case (first, second) => (0, Iterator(first, second))
    case Left(value) => (0, Iterator.single(value))
    case Right(value) => (1, Iterator.single(value))
    case other => throw IllegalArgumentException(s"a ${other.getClass.getName} is no $this")

  private[scaladsl] def make(head: Int, values: Iterator[Any]): Any = this match
    case Optional => values.nextOption()
    case Linked => values.toList
    case Indexed | Sequence => values.toVector
    case Distinct => values.toSet
    case Mapping => Iterator.fill(head)((values.next(), values.next())).toMap
    case Pair => (values.next(), values.next())
    case Choice => if head == 0 then Left(values.next()) else Right(values.next())

/** A head (a size, or which side), where it can differ, and the values, each by its own serializer. */
@Internal
final class NestedSerializer[T](
    private[scaladsl] val container: Container,
    private[scaladsl] val parts: Array[TypeSerializer[Any]]
) extends TypeSerializer[T]:
  private val immutable = parts.forall(_.isImmutableType)

  override def isImmutableType: Boolean = immutable

  override def duplicate(): TypeSerializer[T] =
    val copies = parts.map(_.duplicate())
    if copies.corresponds(parts)(_ eq _) then this else NestedSerializer(container, copies)

  override def createInstance(): T = null.asInstanceOf[T]

  override def copy(from: T): T =
    if immutable then from
    else
      val (head, values) = container.take(from)
      make(head, values.zipWithIndex.map((value, at) => partAt(head, at).copy(value)))

  override def copy(from: T, reuse: T): T = copy(from)

  override def getLength: Int = -1

  override def serialize(value: T, out: DataOutputView): Unit =
    val (head, values) = container.take(value)
    if container != Container.Pair then out.writeInt(head)
    values.zipWithIndex.foreach((value, at) => partAt(head, at).serialize(value, out))

  override def deserialize(in: DataInputView): T =
    val head = headOf(in)
    make(head, Iterator.tabulate(container.count(head))(at => partAt(head, at).deserialize(in)))

  override def deserialize(reuse: T, in: DataInputView): T = deserialize(in)

  override def copy(in: DataInputView, out: DataOutputView): Unit =
    val head = headOf(in)
    if container != Container.Pair then out.writeInt(head)
    (0 until container.count(head)).foreach(at => partAt(head, at).copy(in, out))

  private def partAt(head: Int, at: Int) = parts(container.part(head, at))

  private def make(head: Int, values: Iterator[Any]): T = container.make(head, values).asInstanceOf[T]

  private def headOf(in: DataInputView) =
    val head = if container == Container.Pair then 0 else in.readInt()
    if head < 0 || container == Container.Choice && head > 1 then
      throw IOException(s"the bytes of a container say $head for $container; they are damaged")
    head

  override def snapshotConfiguration(): TypeSerializerSnapshot[T] =
    NestedSnapshot(container, parts.map(_.snapshotConfiguration()))

  override def equals(other: Any): Boolean = other match
    case that: NestedSerializer[?] => container == that.container && parts.sameElements(that.parts)
    case _ => false

  override def hashCode: Int = MurmurHash3.orderedHash(parts, container.ordinal)

/** Which container, and what the serializers of its values want to remember. */
@Internal
final class NestedSnapshot[T](private var container: Container, private var parts: Array[TypeSerializerSnapshot[Any]])
    extends TypeSerializerSnapshot[T]:
  /** For Flink, which then calls `readSnapshot`. */
  def this() = this(Container.Optional, Array.empty)

  override def getCurrentVersion: Int = 1

  override def writeSnapshot(out: DataOutputView): Unit =
    out.writeUTF(container.toString)
    out.writeInt(parts.length)
    parts.foreach(TypeSerializerSnapshot.writeVersionedSnapshot(out, _))

  override def readSnapshot(version: Int, in: DataInputView, loader: ClassLoader): Unit =
    StateVersions.check("containers of the Scala connector", version, getCurrentVersion)
    val name = in.readUTF()
    container = Container.values
      .find(_.toString == name)
      .getOrElse(throw IOException(s"the savepoint holds a container $name, which this connector does not know"))
    parts = Array.fill(in.readInt())(TypeSerializerSnapshot.readVersionedSnapshot[Any](in, loader))

  override def restoreSerializer(): TypeSerializer[T] = NestedSerializer(container, parts.map(_.restoreSerializer()))

  override def resolveSchemaCompatibility(old: TypeSerializerSnapshot[T]): TypeSerializerSchemaCompatibility[T] =
    old match
      case before: NestedSnapshot[?] if before.container == container && before.parts.length == parts.length =>
        val each = parts.indices.map(i => parts(i).resolveSchemaCompatibility(before.parts(i)))
        if each.exists(_.isIncompatible) then TypeSerializerSchemaCompatibility.incompatible()
        else if each.forall(_.isCompatibleAsIs) then TypeSerializerSchemaCompatibility.compatibleAsIs()
        else TypeSerializerSchemaCompatibility.compatibleAfterMigration()
      case _ => TypeSerializerSchemaCompatibility.incompatible()
