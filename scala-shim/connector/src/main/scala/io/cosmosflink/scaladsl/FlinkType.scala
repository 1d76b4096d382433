package io.cosmosflink.scaladsl

import org.apache.flink.annotation.PublicEvolving
import org.apache.flink.api.common.serialization.SerializerConfigImpl
import org.apache.flink.api.common.typeinfo.{TypeInformation, Types}
import org.apache.flink.api.common.typeutils.TypeSerializer
import org.apache.flink.api.common.typeutils.base.array.BytePrimitiveArraySerializer

import java.time.{Duration, Instant, LocalDate, LocalDateTime, LocalTime}
import java.util.UUID

import scala.annotation.implicitNotFound
import scala.compiletime.{constValueTuple, erasedValue, summonInline}
import scala.deriving.Mirror
import scala.reflect.ClassTag

/** How Flink carries a type over an edge and keeps it in state, without Kryo.
  *
  * {{{
  * final case class Order(id: String, amount: BigDecimal, tags: List[String] = Nil) derives FlinkType
  * enum Status derives FlinkType { case Open, Paid; case Refused(reason: String) }
  * given FlinkType[TimeUnit] = FlinkType.of(Types.ENUM(classOf[TimeUnit])) // what Flink knows itself
  * }}}
  *
  * `derives FlinkType` takes case classes, enums, and sealed traits and classes whose cases are case classes, case objects, or sealed
  * types again; all may have type parameters. The fields need a `FlinkType` each: primitives, `String`, `BigDecimal`, `BigInt`, `UUID`, times and
  * durations, `Array[Byte]`, `Option`, `Either`, pairs, `List`, `Vector`, `Seq`, `Set`, `Map`, and what derives or is given one. The root of a
  * sealed type derives; a case needs to only where it is used as a type of its own.
  *
  * Refused by the compiler: other classes and traits, a second list of parameters, a field without a type. Refused when the job is
  * defined: a class that is neither top-level nor in an object, because a savepoint could not name it; two cases of one name; a type that
  * contains itself.
  *
  * Derived state is schema-versioned by the names of class, cases and fields. After a restore
  *   - fields may be in another order, gone, or new with a default,
  *   - cases may be in another order, new, or below another sealed type,
  *   - the one case of a type may have another name, and a type of one case may gain others.
  *
  * Any other change is refused: a field of another type, a new field without a default, a case that is gone, another name of the class or its
  * package. A state that is given up goes one release before the field of its type does: until then Flink goes on writing it as it was.
  */
@PublicEvolving
@implicitNotFound(
  "no FlinkType for ${T}; write `case class ${T}(..) derives FlinkType`, or give one with FlinkType.of(typeInformation)"
)
trait FlinkType[T]:
  def info: TypeInformation[T]

  final def serializer: TypeSerializer[T] = info.createSerializer(SerializerConfigImpl())

object FlinkType:
  def apply[T](using flinkType: FlinkType[T]): FlinkType[T] = flinkType

  /** A type that Flink knows itself. */
  def of[T](typeInformation: => TypeInformation[T]): FlinkType[T] = new FlinkType[T]:
    lazy val info: TypeInformation[T] = typeInformation

  private[scaladsl] def simple[T](serializer: TypeSerializer[T], key: Boolean = true)(using
      tag: ClassTag[T]
  ): FlinkType[T] = of(ScalaTypeInfo(tag.runtimeClass.asInstanceOf[Class[T]], serializer, key))

  private def java[J, T](typeInformation: TypeInformation[J]): FlinkType[T] =
    of(typeInformation.asInstanceOf[TypeInformation[T]])

  given FlinkType[Boolean] = java(Types.BOOLEAN)
  given FlinkType[Byte] = java(Types.BYTE)
  given FlinkType[Short] = java(Types.SHORT)
  given FlinkType[Int] = java(Types.INT)
  given FlinkType[Long] = java(Types.LONG)
  given FlinkType[Float] = java(Types.FLOAT)
  given FlinkType[Double] = java(Types.DOUBLE)
  given FlinkType[Char] = java(Types.CHAR)
  given FlinkType[String] = of(Types.STRING)
  given FlinkType[Instant] = of(Types.INSTANT)
  given FlinkType[LocalDate] = of(Types.LOCAL_DATE)
  given FlinkType[LocalTime] = of(Types.LOCAL_TIME)
  given FlinkType[LocalDateTime] = of(Types.LOCAL_DATE_TIME)
  given javaBigDecimal: FlinkType[_root_.java.math.BigDecimal] = of(Types.BIG_DEC)
  // No keys: an array is equal to itself alone, and 1.0 is 1.00 in other bytes.
  given FlinkType[Array[Byte]] = simple(BytePrimitiveArraySerializer.INSTANCE, key = false)
  given FlinkType[BigDecimal] = simple(BigDecimalSerializer, key = false)
  given FlinkType[BigInt] = simple(BigIntSerializer)
  given FlinkType[UUID] = simple(UuidSerializer)
  given FlinkType[Duration] = simple(DurationSerializer)

  /** Arrays that are only read: Flink copies those of `FlinkType[Array[Byte]]` from operator to operator, these not. */
  def sharedBytes: FlinkType[Array[Byte]] = simple(SharedBytesSerializer, key = false)

  given [T: FlinkType]: FlinkType[Option[T]] = nested(Container.Optional, FlinkType[T])
  given [T: FlinkType]: FlinkType[List[T]] = nested(Container.Linked, FlinkType[T])
  given [T: FlinkType]: FlinkType[Vector[T]] = nested(Container.Indexed, FlinkType[T])
  given [T: FlinkType]: FlinkType[Seq[T]] = nested(Container.Sequence, FlinkType[T])
  given [T: FlinkType]: FlinkType[Set[T]] = nested(Container.Distinct, FlinkType[T])
  given [K: FlinkType, V: FlinkType]: FlinkType[Map[K, V]] = nested(Container.Mapping, FlinkType[K], FlinkType[V])
  given [A: FlinkType, B: FlinkType]: FlinkType[(A, B)] = nested(Container.Pair, FlinkType[A], FlinkType[B])
  given [A: FlinkType, B: FlinkType]: FlinkType[Either[A, B]] = nested(Container.Choice, FlinkType[A], FlinkType[B])

  private def nested[T](container: Container, parts: FlinkType[?]*)(using tag: ClassTag[T]): FlinkType[T] =
    of:
      ScalaTypeInfo(
        tag.runtimeClass.asInstanceOf[Class[T]],
        NestedSerializer[T](container, parts.map(_.serializer.asInstanceOf[TypeSerializer[Any]]).toArray),
        // Equal sets and maps may have their elements in another order.
        key = container != Container.Distinct && container != Container.Mapping && parts.forall(_.info.isKeyType)
      )

  /** For `derives FlinkType` on a case class, an enum or a sealed type. */
  inline def derived[T](using mirror: Mirror.Of[T], tag: ClassTag[T]): FlinkType[T] =
    AdtType(tag.runtimeClass.asInstanceOf[Class[T]], shape[T](mirror))

  inline def shape[T](mirror: Mirror.Of[T]): AdtShape = inline mirror match
    case product: Mirror.ProductOf[T] => AdtShape(Array(productCase[T](product)), _ => 0)
    case sum: Mirror.SumOf[T] =>
      AdtShape.of(branches[sum.MirroredElemTypes], value => sum.ordinal(value.asInstanceOf[T]))

  inline def branches[Branches <: Tuple]: List[AdtShape] = inline erasedValue[Branches] match
    case _: EmptyTuple => Nil
    case _: (head *: tail) => shape[head](summonInline[Mirror.Of[head]]) :: branches[tail]

  inline def productCase[T](mirror: Mirror.ProductOf[T]): AdtCase = AdtCase(
    scala.compiletime.constValue[mirror.MirroredLabel],
    constValueTuple[mirror.MirroredElemLabels].toArray.map(_.toString),
    () => types[mirror.MirroredElemTypes].toArray,
    Defaults.of[T],
    values => mirror.fromProduct(values)
  )

  inline def types[Fields <: Tuple]: List[FlinkType[?]] = inline erasedValue[Fields] match
    case _: EmptyTuple => Nil
    case _: (head *: tail) => summonInline[FlinkType[head]] :: types[tail]
