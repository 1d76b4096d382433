package io.cosmosflink.scaladsl

import io.cosmosflink.core.StateVersions
import org.apache.flink.annotation.Internal
import org.apache.flink.api.common.typeinfo.TypeInformation
import org.apache.flink.api.common.typeutils.{TypeSerializer, TypeSerializerSchemaCompatibility, TypeSerializerSnapshot}
import org.apache.flink.core.memory.{DataInputView, DataOutputView}
import org.slf4j.LoggerFactory

import java.io.IOException
import java.lang.reflect.InvocationTargetException

import scala.util.hashing.MurmurHash3

/** One case of a type; a case class is a type with one.
  *
  * @param types
  *   of the fields, asked for only where the type is used: a generic type is looked up without them
  * @param defaults
  *   of the fields, null where there is none
  */
@Internal
final class AdtCase(
    val name: String,
    val fields: Array[String],
    val types: () => Array[FlinkType[?]],
    val defaults: Array[(() => Any) | Null],
    val make: Product => Any
)

/** What the compiler knows of a type. */
@Internal
final class AdtShape(val cases: Array[AdtCase], val caseOf: Any => Int)

object AdtShape:
  /** A type whose cases are those of its branches: case classes, and sealed types below it.
    *
    * @param branchOf
    *   which branch a value belongs to
    */
  def of(branches: List[AdtShape], branchOf: Any => Int): AdtShape =
    val shapes = branches.toArray
    val starts = shapes.scanLeft(0)(_ + _.cases.length)
    AdtShape(
      shapes.flatMap(_.cases),
      value =>
        val branch = branchOf(value)
        starts(branch) + shapes(branch).caseOf(value)
    )

/** A derived type. */
@Internal
final class AdtType[T](val clazz: Class[T], val shape: AdtShape) extends FlinkType[T]:
  /** Who makes [[made]]. A type that contains itself would wait there for itself. */
  @volatile private var maker: Thread | Null = null

  private lazy val made: TypeInformation[T] =
    maker = Thread.currentThread
    try make()
    // A generic type is another one at each turn.
    catch case _: StackOverflowError => throw recursive
    finally maker = null

  def info: TypeInformation[T] = if maker eq Thread.currentThread then throw recursive else made

  private def recursive = IllegalArgumentException(
    s"${clazz.getName} contains itself, and Flink lays out a type in full before it writes a value; keep what is inside as Json, or as bytes"
  )

  private def make(): TypeInformation[T] =
    val layout = shape.cases.map: c =>
      AdtLayout(c.name, c.fields, c.types().map(_.serializer.asInstanceOf[TypeSerializer[Any]]))
    val serializer = AdtSerializer[T](clazz, layout)
    serializer.check()
    ScalaTypeInfo(clazz, serializer, key = shape.cases.forall(_.types().forall(_.info.isKeyType)))

/** How one case is laid out in bytes: fields in this order. */
@Internal
final class AdtLayout(val name: String, val fields: Array[String], val serializers: Array[TypeSerializer[Any]])
    extends Serializable:
  def map(f: TypeSerializer[Any] => TypeSerializer[Any]): AdtLayout = AdtLayout(name, fields, serializers.map(f))

  override def equals(other: Any): Boolean = other match
    case that: AdtLayout =>
      name == that.name && fields.sameElements(that.fields) && serializers.sameElements(that.serializers)
    case _ => false

  override def hashCode: Int = MurmurHash3.orderedHash(fields :+ name)

/** The number of the case (only where there can be several) and its fields.
  *
  * It is made of the layout that bytes have and of the shape that the class has now, which it finds in the companion object: the class is
  * all that a savepoint names. So it reads bytes of an older schema into values of the present one.
  */
@Internal
final class AdtSerializer[T](private[scaladsl] val clazz: Class[T], private[scaladsl] val layout: Array[AdtLayout])
    extends TypeSerializer[T]:
  @transient private lazy val shape = AdtSerializer.shapeOf(clazz)

  /** Bytes keep their meaning: by the layout that they were written with, and not by the class as it is now. */
  @transient private lazy val single = layout.length == 1

  /** A type with one case, then as now: its name says nothing. */
  @transient private lazy val only = single && shape.cases.length == 1

  /** By case of the layout: the case now, and for each of its fields the place in the layout, -1 for the default. */
  @transient private lazy val readers: Array[AdtSerializer.Reader] =
    layout.map(AdtSerializer.reader(clazz, shape, only, _))

  /** By case now: its number in the layout (-1: none), and for each field of the layout the place in the value (-1: dropped). */
  @transient private lazy val writers: Array[AdtSerializer.Writer] =
    shape.cases.map(AdtSerializer.writer(layout, only, _))

  /** Fails at once, and not on the cluster, when the class cannot be found again, or a case not told from another. */
  private[scaladsl] def check(): Unit =
    val names = shape.cases.map(_.name)
    names
      .diff(names.distinct)
      .headOption
      .foreach: twice =>
        throw IllegalArgumentException(
          s"two cases of ${clazz.getName} have the name $twice, by which a savepoint tells them apart; rename one"
        )

  private lazy val immutable = layout.forall(_.serializers.forall(_.isImmutableType))

  override def isImmutableType: Boolean = immutable

  override def duplicate(): TypeSerializer[T] =
    val copies = layout.map(_.map(_.duplicate()))
    val same = layout.indices.forall(i => layout(i).serializers.corresponds(copies(i).serializers)(_ eq _))
    if same then this else AdtSerializer(clazz, copies)

  override def createInstance(): T = null.asInstanceOf[T]

  override def copy(from: T): T =
    if immutable then from
    else
      val writer = writers(shape.caseOf(from))
      val product = from.asInstanceOf[Product]
      val values = Values(product.productArity)
      writer.fields.indices.foreach: i =>
        val at = writer.fields(i)
        values(at) = layout(writer.number).serializers(i).copy(product.productElement(at))
      shape.cases(shape.caseOf(from)).make(values).asInstanceOf[T]

  override def copy(from: T, reuse: T): T = copy(from)

  override def getLength: Int = -1

  override def serialize(value: T, out: DataOutputView): Unit =
    val writer = writers(shape.caseOf(value))
    if writer.problem != null then throw IOException(writer.problem)
    if !single then out.writeShort(writer.number)
    val product = value.asInstanceOf[Product]
    val serializers = layout(writer.number).serializers
    var i = 0
    while i < serializers.length do
      serializers(i).serialize(product.productElement(writer.fields(i)), out)
      i += 1

  override def deserialize(in: DataInputView): T =
    val number = numberOf(in)
    val reader = readers(number)
    if reader.problem != null then throw IOException(reader.problem)
    val serializers = layout(number).serializers
    val read = Values(serializers.length)
    var i = 0
    while i < serializers.length do
      read(i) = serializers(i).deserialize(in)
      i += 1
    reader.make(if reader.asIs then read else reader.arrange(read)).asInstanceOf[T]

  override def deserialize(reuse: T, in: DataInputView): T = deserialize(in)

  override def copy(in: DataInputView, out: DataOutputView): Unit =
    val number = numberOf(in)
    if !single then out.writeShort(number)
    layout(number).serializers.foreach(_.copy(in, out))

  private def numberOf(in: DataInputView): Int =
    val number = if single then 0 else in.readShort().toInt
    if number < 0 || number >= layout.length then
      throw IOException(s"the bytes of a ${clazz.getName} say case $number of ${layout.length}; they are damaged")
    number

  override def snapshotConfiguration(): TypeSerializerSnapshot[T] = AdtSnapshot(clazz, layout)

  override def equals(other: Any): Boolean = other match
    case that: AdtSerializer[?] => clazz == that.clazz && layout.sameElements(that.layout)
    case _ => false

  override def hashCode: Int = clazz.hashCode

/** Field values on their way into a constructor. */
final private[scaladsl] class Values(size: Int) extends Product:
  private val values = new Array[Any](size)
  def update(i: Int, value: Any): Unit = values(i) = value
  def productArity: Int = values.length
  def productElement(i: Int): Any = values(i)
  def canEqual(other: Any): Boolean = false

object AdtSerializer:
  final private class Reader(
      target: AdtCase,
      sources: Array[Int],
      val asIs: Boolean,
      val problem: String | Null
  ):
    def make(values: Values): Any = target.make(values)
    def arrange(read: Values): Values =
      val values = Values(sources.length)
      sources.indices.foreach: i =>
        values(i) = if sources(i) >= 0 then read.productElement(sources(i)) else target.defaults(i).nn()
      values

  final private class Writer(val number: Int, val fields: Array[Int], val problem: String | Null)

  private def reader(clazz: Class[?], shape: AdtShape, only: Boolean, from: AdtLayout): Reader =
    val cases = if only then shape.cases.headOption else shape.cases.find(_.name == from.name)
    cases match
      case None =>
        Reader(AdtCase(from.name, Array(), () => Array(), Array(), _ => null), Array(), true, missing(clazz, from))
      case Some(target) =>
        val sources = target.fields.map(from.fields.indexOf(_))
        val lacking = target.fields.indices.filter(i => sources(i) < 0 && target.defaults(i) == null).map(target.fields)
        Reader(
          target,
          sources,
          asIs = from.fields.sameElements(target.fields),
          problem =
            if lacking.isEmpty then null
            else
              s"the savepoint has no ${lacking.mkString(", ")} of ${clazz.getName}, and the class no default; give it one"
        )

  private def missing(clazz: Class[?], from: AdtLayout) =
    s"the savepoint holds a ${from.name}, which ${clazz.getName} no longer has; keep the case"

  private def writer(layout: Array[AdtLayout], only: Boolean, from: AdtCase): Writer =
    val number = if only then 0 else layout.indexWhere(_.name == from.name)
    val fields = if number < 0 then Array.empty[Int] else layout(number).fields.map(from.fields.indexOf(_))
    val problem =
      if number < 0 || fields.contains(-1) then
        s"a ${from.name} cannot be written in the layout of an older savepoint; this state is not used by the job any more"
      else null
    Writer(number, fields, problem)

  /** The shape that the companion object of a class derives. */
  private[scaladsl] def shapeOf(clazz: Class[?]): AdtShape =
    def lost = IllegalArgumentException(
      s"${clazz.getName} must be top-level or in an object, and say `derives FlinkType`, so that a savepoint finds it again"
    )
    val companion =
      try Class.forName(clazz.getName + "$", true, clazz.getClassLoader).getField("MODULE$").get(null)
      catch case _: (ClassNotFoundException | NoSuchFieldException) => throw lost
    companion.getClass.getMethods.iterator
      .filter(m => classOf[FlinkType[?]].isAssignableFrom(m.getReturnType))
      .filter(_.getParameterTypes.forall(classOf[FlinkType[?]].isAssignableFrom))
      // The evidence of a generic type says nothing about its shape, and is not looked at.
      .map(m =>
        try m.invoke(companion, Array.fill[AnyRef | Null](m.getParameterCount)(null)*)
        catch case e: InvocationTargetException => throw e.getCause.nn
      )
      .collectFirst { case derived: AdtType[?] if derived.clazz == clazz => derived.shape }
      .getOrElse(throw lost)

/** The names of cases and fields, and what the fields' serializers want to remember. */
@Internal
final class AdtSnapshot[T](private var clazz: Class[T], private var cases: Array[AdtSnapshot.Case])
    extends TypeSerializerSnapshot[T]:
  /** For Flink, which then calls `readSnapshot`. */
  def this() = this(null, Array.empty[AdtSnapshot.Case])

  private[scaladsl] def this(clazz: Class[T], layout: Array[AdtLayout]) =
    this(clazz, layout.map(l => AdtSnapshot.Case(l.name, l.fields, l.serializers.map(_.snapshotConfiguration()))))

  override def getCurrentVersion: Int = 1

  override def writeSnapshot(out: DataOutputView): Unit =
    out.writeUTF(clazz.getName)
    out.writeInt(cases.length)
    cases.foreach: c =>
      out.writeUTF(c.name)
      out.writeInt(c.fields.length)
      c.fields.foreach(out.writeUTF)
      c.serializers.foreach(TypeSerializerSnapshot.writeVersionedSnapshot(out, _))

  override def readSnapshot(version: Int, in: DataInputView, loader: ClassLoader): Unit =
    StateVersions.check("types of the Scala connector", version, getCurrentVersion)
    val name = in.readUTF()
    clazz =
      try Class.forName(name, false, loader).asInstanceOf[Class[T]]
      catch
        case e: ClassNotFoundException =>
          throw IOException(s"the savepoint holds values of $name, which this job does not have; keep the class", e)
    cases = Array.fill(in.readInt()):
      val name = in.readUTF()
      val fields = Array.fill(in.readInt())(in.readUTF())
      AdtSnapshot.Case(
        name,
        fields,
        fields.map(_ => TypeSerializerSnapshot.readVersionedSnapshot[Any](in, loader))
      )

  override def restoreSerializer(): TypeSerializer[T] =
    AdtSerializer(clazz, cases.map(c => AdtLayout(c.name, c.fields, c.serializers.map(_.restoreSerializer()))))

  override def resolveSchemaCompatibility(old: TypeSerializerSnapshot[T]): TypeSerializerSchemaCompatibility[T] =
    old match
      case before: AdtSnapshot[T @unchecked] if before.clazz.getName == clazz.getName =>
        problem(before) match
          case Some(why) =>
            AdtSnapshot.log.error("cannot restore values of {}: {}", clazz.getName, why)
            TypeSerializerSchemaCompatibility.incompatible()
          case None if sameLayout(before) => TypeSerializerSchemaCompatibility.compatibleAsIs()
          case None => TypeSerializerSchemaCompatibility.compatibleAfterMigration()
      case _ => TypeSerializerSchemaCompatibility.incompatible()

  private def pairs(before: AdtSnapshot[T]): Array[(AdtSnapshot.Case, Option[AdtSnapshot.Case])] =
    if cases.length == 1 && before.cases.length == 1 then Array((before.cases.head, cases.headOption))
    else before.cases.map(b => (b, cases.find(_.name == b.name)))

  private def problem(before: AdtSnapshot[T]): Option[String] =
    val shape = AdtSerializer.shapeOf(clazz)
    pairs(before).iterator
      .flatMap:
        case (gone, None) => Some(s"the case ${gone.name} is gone")
        case (was, Some(now)) =>
          val defaults = shape.cases(cases.indexOf(now)).defaults
          now.fields.indices.iterator.flatMap: i =>
            was.fields.indexOf(now.fields(i)) match
              case -1 => Option.when(defaults(i) == null)(s"the new field ${now.fields(i)} has no default")
              case j =>
                Option.when(now.compatibility(i, was.serializers(j)).isIncompatible):
                  s"the field ${now.fields(i)} has another type"
      .nextOption()

  private def sameLayout(before: AdtSnapshot[T]) =
    cases.length == before.cases.length && cases.indices.forall: c =>
      val (now, was) = (cases(c), before.cases(c))
      (now.name == was.name || cases.length == 1) && now.fields.sameElements(was.fields) &&
      now.fields.indices.forall(i => now.compatibility(i, was.serializers(i)).isCompatibleAsIs)

object AdtSnapshot:
  private val log = LoggerFactory.getLogger(classOf[AdtSnapshot[?]])

  final class Case(
      private[scaladsl] val name: String,
      private[scaladsl] val fields: Array[String],
      private[scaladsl] val serializers: Array[TypeSerializerSnapshot[Any]]
  ):
    private[scaladsl] def compatibility(field: Int, old: TypeSerializerSnapshot[Any]) =
      serializers(field).resolveSchemaCompatibility(old)
