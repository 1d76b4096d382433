package io.cosmosflink.scaladsl

import org.apache.flink.annotation.PublicEvolving
import com.github.plokhotnyuk.jsoniter_scala.core.{readFromSubArray, JsonValueCodec, ReaderConfig}
import com.github.plokhotnyuk.jsoniter_scala.macros.{CodecMakerConfig, JsonCodecMaker}

import scala.annotation.implicitNotFound
import scala.util.control.NonFatal

/** Why bytes are not the value that was expected. Says where, never what the document holds. */
@PublicEvolving
final case class DecodeError(message: String) derives FlinkType

/** Makes values out of JSON. Total: any bytes give a value or an error, never an exception.
  *
  * {{{
  * final case class Order(id: String, region: String, amount: BigDecimal) derives JsonDecoder
  * }}}
  *
  * A derived decoder leaves out fields that the model lacks, and fills in the model's defaults. For a type inside of models that is read in
  * a way of its own, give jsoniter-scala's `JsonValueCodec`: a `JsonDecoder` of it is not looked for there.
  */
@PublicEvolving
@implicitNotFound(
  "no JsonDecoder for ${T}; write `case class ${T}(..) derives JsonDecoder`, or give one with JsonDecoder.of(codec)"
)
trait JsonDecoder[T] extends Serializable:
  /** The value of these bytes, which are only read, and only during the call. */
  def decode(bytes: Array[Byte], offset: Int, length: Int): Either[DecodeError, T]

  final def decode(bytes: Array[Byte]): Either[DecodeError, T] = decode(bytes, 0, bytes.length)

object JsonDecoder:
  def apply[T](using decoder: JsonDecoder[T]): JsonDecoder[T] = decoder

  /** Numbers keep every digit: as it is, the library rounds a BigDecimal to 34. It refuses more than 308 digits, which nobody writes by hand
    * and which take long to read.
    */
  inline def derived[T]: JsonDecoder[T] = of(
    JsonCodecMaker.make[T](
      CodecMakerConfig
        .withBigDecimalPrecision(0)
        // Its defaults are 1024; a document of 2 MiB can hold no more than this.
        .withMapMaxInsertNumber(1 << 20)
        .withSetMaxInsertNumber(1 << 20)
    )
  )

  /** A decoder over a codec of jsoniter-scala. */
  def of[T](codec: JsonValueCodec[T]): JsonDecoder[T] = new JsonDecoder[T]:
    def decode(bytes: Array[Byte], offset: Int, length: Int): Either[DecodeError, T] =
      try Right(readFromSubArray(bytes, offset, offset + length, readerConfig)(using codec))
      catch case NonFatal(e) => Left(DecodeError(String.valueOf(e.getMessage)))

  /** Documents do not belong into a log. */
  private val readerConfig = ReaderConfig.withAppendHexDumpToParseException(false)
