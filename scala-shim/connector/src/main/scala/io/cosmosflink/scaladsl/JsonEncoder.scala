package io.cosmosflink.scaladsl

import io.cosmosflink.core.Documents
import org.apache.flink.annotation.PublicEvolving
import com.github.plokhotnyuk.jsoniter_scala.core.{writeToArray, JsonValueCodec}
import com.github.plokhotnyuk.jsoniter_scala.macros.{named, CodecMakerConfig, JsonCodecMaker}

import scala.annotation.implicitNotFound
import scala.quoted.*

/** Makes JSON in UTF-8 out of values. A derived encoder writes every field, except `None`. A sink adds the field `id` to what an encoder derived for a
  * case class without such a field writes; any other encoder must write it.
  */
@PublicEvolving
@implicitNotFound(
  "no JsonEncoder for ${T}; write `case class ${T}(..) derives JsonEncoder`, or give one with JsonEncoder.of(codec)"
)
trait JsonEncoder[T] extends Serializable:
  def encode(value: T): Array[Byte]

  /** Whether what it writes has a field `id`, or may have one; a sink adds the field where a model is sure to have none. */
  private[scaladsl] def writesId: Boolean = true

  /** This with a time to live: the service takes a document out so many seconds after its last change, -1 for never, where the container has time
    * to live turned on. `None` leaves it to the container. What is encoded must have no field `ttl` of its own.
    */
  final def withTimeToLive(seconds: T => Option[Int]): JsonEncoder[T] =
    val (inner, secondsOf) = (this, seconds)
    new JsonEncoder[T]:
      def encode(value: T): Array[Byte] =
        val document = inner.encode(value)
        secondsOf(value).fold(document)(Documents.withTimeToLive(document, _))
      override private[scaladsl] def writesId: Boolean = inner.writesId

object JsonEncoder:
  def apply[T](using encoder: JsonEncoder[T]): JsonEncoder[T] = encoder

  inline def derived[T]: JsonEncoder[T] = ofModel(
    JsonCodecMaker.make[T](CodecMakerConfig.withTransientDefault(false).withTransientEmpty(false)),
    hasId[T]
  )

  /** For derived encoders. */
  def ofModel[T](codec: JsonValueCodec[T], hasId: Boolean): JsonEncoder[T] = new JsonEncoder[T]:
    def encode(value: T): Array[Byte] = writeToArray(value)(using codec)
    override private[scaladsl] def writesId: Boolean = hasId

  /** Whether a case class has a field that is written as `id`; anything else may have one. */
  inline def hasId[T]: Boolean = ${ readHasId[T] }

  private def readHasId[T: Type](using Quotes): Expr[Boolean] =
    import quotes.reflect.*
    val model = TypeRepr.of[T].typeSymbol
    // The library looks at the field; the compiler may keep an annotation at the parameter alone.
    def names(parameter: Symbol) = (parameter.annotations ++ model.fieldMember(parameter.name).annotations).collect:
      case annotation @ Apply(_, arguments) if annotation.tpe <:< TypeRepr.of[named] =>
        arguments.collectFirst:
          case Literal(StringConstant(name)) => name
          case NamedArg(_, Literal(StringConstant(name))) => name
    val parameters = model.primaryConstructor.paramSymss.flatten.filter(_.isTerm)
    Expr(
      !model.isClassDef || !model.flags.is(Flags.Case) ||
        parameters.exists(parameter => names(parameter).flatten.headOption.getOrElse(parameter.name) == "id")
    )

  /** An encoder over a codec of jsoniter-scala. */
  def of[T](codec: JsonValueCodec[T]): JsonEncoder[T] = new JsonEncoder[T]:
    def encode(value: T): Array[Byte] = writeToArray(value)(using codec)
