package io.cosmosflink.scaladsl

import org.apache.flink.annotation.Internal
import scala.quoted.*

/** Default values of a case class's parameters. */
@Internal
object Defaults:
  /** In the order of the parameters: how to make each one's default, or null. */
  inline def of[T]: Array[(() => Any) | Null] = ${ read[T] }

  private def read[T: Type](using Quotes): Expr[Array[(() => Any) | Null]] =
    import quotes.reflect.*
    val model = TypeRepr.of[T].widen
    val companion = model.typeSymbol.companionModule
    val parameters = model.typeSymbol.primaryConstructor.paramSymss.flatten.filter(_.isTerm)
    val defaults = parameters.zipWithIndex.map: (parameter, i) =>
      if !parameter.flags.is(Flags.HasDefault) then '{ null }
      else
        val method = Select(Ref(companion), companion.methodMember("$lessinit$greater$default$" + (i + 1)).head)
        val call = if model.typeArgs.isEmpty then method else method.appliedToTypes(model.typeArgs)
        '{ () => ${ call.asExprOf[Any] } }
    '{ Array[(() => Any) | Null](${ Varargs(defaults) }*) }
