package io.cosmosflink.scaladsl

import org.apache.flink.annotation.PublicEvolving
import com.github.plokhotnyuk.jsoniter_scala.core.{JsonReader, JsonValueCodec, JsonWriter}

import java.util.LinkedHashMap

import scala.jdk.CollectionConverters.*

/** A JSON document of which a program knows only a part: what it does not look at stays as it is. Fields keep their order, numbers their
  * text (`1.10` is not `1.1`). Of a field that is given twice the last one counts.
  */
@PublicEvolving
enum Json:
  case Null
  case Bool(value: Boolean)

  /** @param text the number as it was written */
  case Num(text: String)
  case Str(value: String)
  case Arr(items: Vector[Json])
  case Obj(fields: JsonFields)

  /** The value of a field, if this is an object that has it. */
  def get(name: String): Option[Json] = this match
    case Obj(fields) => fields.get(name)
    case _ => None

  /** This as UTF-8. */
  def bytes: Array[Byte] = JsonEncoder[Json].encode(this)

  override def toString: String = String(bytes, java.nio.charset.StandardCharsets.UTF_8)

object Json:
  /** Objects and arrays inside each other: Jackson's limit, so that both variants take the same documents. Far below what a thread's stack
    * holds.
    */
  private val maxDepth = 1000

  /** Characters of a number, again as in Jackson: to calculate with more takes long. */
  private val maxNumber = 1000

  def obj(fields: (String, Json)*): Json = Obj(JsonFields(fields*))

  /** With every digit. */
  def num(value: BigDecimal): Json = Num(value.bigDecimal.toString)

  def num(value: Long): Json = Num(value.toString)

  def parse(bytes: Array[Byte]): Either[DecodeError, Json] = JsonDecoder[Json].decode(bytes)

  given codec: JsonValueCodec[Json] = new JsonValueCodec[Json]:
    def nullValue: Json = Null
    def decodeValue(in: JsonReader, default: Json): Json = read(in, maxDepth)
    def encodeValue(value: Json, out: JsonWriter): Unit = write(value, out)

  given JsonDecoder[Json] = JsonDecoder.of(codec)
  given JsonEncoder[Json] = JsonEncoder.of(codec)
  given FlinkType[Json] = FlinkType.simple(JsonSerializer, key = false)

  private def read(in: JsonReader, depth: Int): Json =
    in.nextToken() match
      case '{' | '[' if depth == 0 => in.decodeError(s"more than $maxDepth levels of nesting")
      case '"' =>
        in.rollbackToken()
        Str(in.readString(null))
      case '{' =>
        val fields = LinkedHashMap[String, Json]()
        if !in.isNextToken('}') then
          in.rollbackToken()
          while
            fields.put(in.readKeyAsString(), read(in, depth - 1))
            in.isNextToken(',')
          do ()
          if !in.isCurrentToken('}') then in.objectEndOrCommaError()
        Obj(JsonFields.owning(fields))
      case '[' =>
        val items = Vector.newBuilder[Json]
        if !in.isNextToken(']') then
          in.rollbackToken()
          while
            items += read(in, depth - 1)
            in.isNextToken(',')
          do ()
          if !in.isCurrentToken(']') then in.arrayEndOrCommaError()
        Arr(items.result())
      case 't' | 'f' =>
        in.rollbackToken()
        Bool(in.readBoolean())
      case 'n' => in.readNullOrError(Null, "expected null")
      case _ =>
        in.rollbackToken()
        Num(number(in))

  private def number(in: JsonReader): String =
    val text = String(in.readRawValAsBytes(), java.nio.charset.StandardCharsets.US_ASCII)
    if text.length > maxNumber then in.decodeError(s"a number of more than $maxNumber characters")
    if !numberText.matcher(text).matches then in.decodeError("expected a JSON value")
    text

  private val numberText = java.util.regex.Pattern.compile("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?")

  private def write(value: Json, out: JsonWriter): Unit = value match
    case Null => out.writeNull()
    case Bool(value) => out.writeVal(value)
    case Num(text) => out.writeRawVal(text.getBytes(java.nio.charset.StandardCharsets.US_ASCII))
    case Str(value) => out.writeVal(value)
    case Arr(items) =>
      out.writeArrayStart()
      items.foreach(write(_, out))
      out.writeArrayEnd()
    case Obj(fields) =>
      out.writeObjectStart()
      fields.foreach: (name, value) =>
        out.writeKey(name)
        write(value, out)
      out.writeObjectEnd()

/** The fields of a JSON object, in order. Immutable. Equal when the same names have the same values, in whatever order. */
@PublicEvolving
final class JsonFields private (private val fields: LinkedHashMap[String, Json]):
  def get(name: String): Option[Json] = Option(fields.get(name))

  def size: Int = fields.size

  def names: Iterator[String] = fields.keySet.iterator.asScala

  def foreach(f: (String, Json) => Unit): Unit = fields.forEach((name, value) => f(name, value))

  /** With other values for these fields; new ones come last. */
  def ++(others: (String, Json)*): JsonFields = changed(copy => others.foreach(copy.put(_, _)))

  /** Without these fields. */
  def --(names: Iterable[String]): JsonFields = changed(copy => names.foreach(copy.remove))

  private def changed(change: LinkedHashMap[String, Json] => Unit) =
    val copy = LinkedHashMap(fields)
    change(copy)
    new JsonFields(copy)

  override def equals(other: Any): Boolean = other match
    case that: JsonFields => fields == that.fields
    case _ => false

  override def hashCode: Int = fields.hashCode

  override def toString: String = Json.Obj(this).toString

object JsonFields:
  val empty: JsonFields = JsonFields()

  def apply(fields: (String, Json)*): JsonFields =
    val map = LinkedHashMap[String, Json]()
    fields.foreach(map.put(_, _))
    new JsonFields(map)

  /** Without a copy: nobody else may hold the map. */
  private[scaladsl] def owning(fields: LinkedHashMap[String, Json]): JsonFields = new JsonFields(fields)
