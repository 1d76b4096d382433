package io.cosmosflink.scaladsl

import com.github.plokhotnyuk.jsoniter_scala.core.{writeToArray, JsonValueCodec}
import com.github.plokhotnyuk.jsoniter_scala.macros.{CodecMakerConfig, JsonCodecMaker}

import scala.annotation.implicitNotFound

/** Makes JSON in UTF-8 out of values. A derived encoder writes every field, except `None`. */
@implicitNotFound(
  "no JsonEncoder for ${T}; write `case class ${T}(..) derives JsonEncoder`, or give one with JsonEncoder.of(codec)"
)
trait JsonEncoder[T] extends Serializable:
  def encode(value: T): Array[Byte]

object JsonEncoder:
  def apply[T](using encoder: JsonEncoder[T]): JsonEncoder[T] = encoder

  inline def derived[T]: JsonEncoder[T] =
    of(JsonCodecMaker.make[T](CodecMakerConfig.withTransientDefault(false).withTransientEmpty(false)))

  /** An encoder over a codec of jsoniter-scala. */
  def of[T](codec: JsonValueCodec[T]): JsonEncoder[T] = new JsonEncoder[T]:
    def encode(value: T): Array[Byte] = writeToArray(value)(using codec)
