package io.cosmosflink.scaladsl

import io.cosmosflink.core.Patch as CorePatch
import org.apache.flink.annotation.{Internal, PublicEvolving}

import scala.annotation.implicitNotFound

/** Changes of parts of a document, which the service carries out together and in this order.
  *
  * {{{
  * Patch.set("/status", "shipped").increment("/version", 1).when("FROM c WHERE c.version = 7")
  * }}}
  *
  * A path names a field behind a slash, or one inside an object or an array (`/address/city`, `/items/0`, `/items/-` for behind the last). More than
  * ten operations travel as several patches, one behind the other: such a patch has no condition and no ETag.
  */
@PublicEvolving
final case class Patch(operations: Vector[PatchOperation], condition: Option[String] = None) derives FlinkType:
  /** Writes a value, whether or not the field is there. Of an array's item it writes the one at this index anew. */
  def set[A: PatchValue](path: String, value: A): Patch = and(PatchOperation.Set(path, PatchValue.json(value)))

  /** Writes a value, whether or not the field is there. An item of an array is put before the one at this index. */
  def add[A: PatchValue](path: String, value: A): Patch = and(PatchOperation.Add(path, PatchValue.json(value)))

  /** Writes a value; the service refuses the patch when the field is not there. */
  def replace[A: PatchValue](path: String, value: A): Patch = and(PatchOperation.Replace(path, PatchValue.json(value)))

  /** Takes a field out; the service refuses the patch when it is not there, as it is not when the patch is replayed: `set(path, Json.Null).remove(path)`
    * does not mind.
    */
  def remove(path: String): Patch = and(PatchOperation.Remove(path))

  /** Adds to a number, or makes the field of it. A replay adds once more: see `docs/writing.md`. */
  def increment(path: String, by: BigDecimal): Patch = and(PatchOperation.Increment(path, by))

  /** Takes the value at `from` out and writes it at `path`. */
  def move(from: String, path: String): Patch = and(PatchOperation.Move(from, path))

  /** Only where this holds, such as `FROM c WHERE c.version < 8`; where not, the document stays as it is, and the record counts as superseded. */
  def when(predicate: String): Patch = copy(condition = Some(predicate))

  private def and(operation: PatchOperation) = copy(operations = operations :+ operation)

  /** As the service takes it. The natives jar refuses paths and values that no patch can have, the core all else. */
  private[scaladsl] def bytes: Array[Byte] = toCore.bytes

  private[scaladsl] def toCore: CorePatch =
    val patch = CorePatch()
    operations.foreach:
      case PatchOperation.Set(path, value) => patch.set(path, CorePatch.json(value.toString))
      case PatchOperation.Add(path, value) => patch.add(path, CorePatch.json(value.toString))
      case PatchOperation.Replace(path, value) => patch.replace(path, CorePatch.json(value.toString))
      case PatchOperation.Remove(path) => patch.remove(path)
      case PatchOperation.Increment(path, by) => patch.increment(path, by.bigDecimal)
      case PatchOperation.Move(from, path) => patch.move(from, path)
    condition.foreach(patch.when)
    patch

/** Patches that begin with one operation. */
object Patch:
  private val nothing = Patch(Vector.empty)

  def set[A: PatchValue](path: String, value: A): Patch = nothing.set(path, value)
  def add[A: PatchValue](path: String, value: A): Patch = nothing.add(path, value)
  def replace[A: PatchValue](path: String, value: A): Patch = nothing.replace(path, value)
  def remove(path: String): Patch = nothing.remove(path)
  def increment(path: String, by: BigDecimal): Patch = nothing.increment(path, by)
  def move(from: String, path: String): Patch = nothing.move(from, path)

/** One change of a patch. */
@PublicEvolving
enum PatchOperation derives FlinkType:
  case Set(path: String, value: Json)
  case Add(path: String, value: Json)
  case Replace(path: String, value: Json)
  case Remove(path: String)
  case Increment(path: String, by: BigDecimal)
  case Move(from: String, path: String)

/** What can be written by a patch: strings, numbers, booleans, [[Json]], `Option` of them (`None` is null), and models that have a
  * [[JsonEncoder]].
  */
@PublicEvolving
@implicitNotFound(
  "${A} cannot be written by a patch; it must be a String, a number, a Boolean, Json, or have a JsonEncoder"
)
trait PatchValue[A]:
  def json(value: A): Json

object PatchValue extends ModelValues:
  def json[A](value: A)(using patchValue: PatchValue[A]): Json = patchValue.json(value)

  private def of[A](f: A => Json): PatchValue[A] = new PatchValue[A]:
    def json(value: A): Json = f(value)

  given PatchValue[Json] = of(identity)
  given PatchValue[String] = of(Json.Str(_))
  given PatchValue[Boolean] = of(Json.Bool(_))
  given PatchValue[Int] = of(number => Json.num(number.toLong))
  given PatchValue[Long] = of(Json.num(_))
  given PatchValue[Double] = of(number => Json.num(BigDecimal(number)))
  given PatchValue[BigDecimal] = of(Json.num(_))
  given [A: PatchValue]: PatchValue[Option[A]] = of(_.fold(Json.Null)(PatchValue.json(_)))

/** Those that give way to the ones above. */
@Internal
sealed trait ModelValues:
  given [A](using encoder: JsonEncoder[A]): PatchValue[A] = new PatchValue[A]:
    def json(value: A): Json = Json.parse(encoder.encode(value)) match
      case Right(json) => json
      case Left(error) => throw IllegalArgumentException(s"the encoder's JSON cannot be a value of a patch: $error")
