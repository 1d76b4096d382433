package io.cosmosflink.scaladsl

import io.cosmosflink.core.Documents
import org.apache.flink.annotation.PublicEvolving
import scala.annotation.{implicitNotFound, StaticAnnotation}
import scala.quoted.*

/** Marks the field that is the document's id, where it is not named `id`. The document gets a field `id` of this value besides. */
@PublicEvolving
final class documentId extends StaticAnnotation

/** Marks the field that is the partition key, or several in the order of the container's paths. */
@PublicEvolving
final class partitionKey extends StaticAnnotation

/** Says which document a value is: its id and its partition key.
  *
  * {{{
  * final case class Order(id: String, @partitionKey region: String) derives DocumentKey
  *
  * given DocumentKey[Payment] = DocumentKey.of(_.number, p => PartitionKey(p.tenant, p.customer))
  * }}}
  */
@PublicEvolving
@implicitNotFound(
  "no DocumentKey for ${T}; write `case class ${T}(id: String, @partitionKey ..) derives DocumentKey`, or give one with DocumentKey.of(id, partitionKey)"
)
trait DocumentKey[T] extends Serializable:
  /** The document's id. A deterministic one makes writes repeatable. */
  def id(value: T): String

  def partitionKey(value: T): PartitionKey

object DocumentKey:
  def apply[T](using key: DocumentKey[T]): DocumentKey[T] = key

  def of[T](id: T => String, partitionKey: T => PartitionKey): DocumentKey[T] =
    val (idOf, keyOf) = (id, partitionKey)
    new DocumentKey[T]:
      def id(value: T): String = idOf(value)
      def partitionKey(value: T): PartitionKey = keyOf(value)

  /** An id that follows from these values: 32 hexadecimal digits of a SHA-256, the same as `hash(..)` of the option `sink.id` makes of a document with
    * them.
    *
    * @param values
    *   strings, numbers, booleans or null; at least one
    */
  def hashedId(values: Any*): String = Documents.hashedId(values.map:
    case number: BigDecimal => number.bigDecimal
    case number: BigInt => number.bigInteger
    case other => other.asInstanceOf[AnyRef]
  *)

  /** For a container without partition key paths; such were made by old clients and are still served. */
  def withoutPartitionKey[T](id: T => String): DocumentKey[T] = of(id, _ => PartitionKey.none)

  /** From the field `id` (or the one marked `@documentId`) and the fields marked `@partitionKey`. Does not compile without them. */
  inline def derived[T]: DocumentKey[T] = ${ derive[T] }

  private def derive[T: Type](using Quotes): Expr[DocumentKey[T]] =
    import quotes.reflect.*
    val model = TypeRepr.of[T]
    val name = model.typeSymbol.name
    val parameters = model.typeSymbol.primaryConstructor.paramSymss.flatten.filter(_.isTerm)
    def marked[A: Type] = parameters.filter(_.hasAnnotation(TypeRepr.of[A].typeSymbol)).map(_.name)
    def field(name: String) = model.typeSymbol.fieldMember(name)
    def select(value: Expr[T], name: String) = Select(value.asTerm, field(name))
    val idField = marked[documentId] match
      case one :: Nil => one
      case Nil if parameters.exists(_.name == "id") => "id"
      case Nil =>
        report.errorAndAbort(s"$name has no document id: name a String field `id`, or mark one with @documentId")
      case many => report.errorAndAbort(s"$name has several fields with @documentId: ${many.mkString(", ")}; leave one")
    if !(model.memberType(field(idField)) <:< TypeRepr.of[String]) then
      report.errorAndAbort(s"the document id $name.$idField is not a String; the service has no other ids")
    val keyFields = marked[io.cosmosflink.scaladsl.partitionKey]
    if keyFields.isEmpty then
      report.errorAndAbort(
        s"$name has no partition key: mark its field, or fields in the order of the paths, with @partitionKey"
      )
    if keyFields.size > 3 then
      report.errorAndAbort(s"$name has ${keyFields.size} partition key fields; the service takes up to 3")
    def part(value: Expr[T], name: String): (Type[?], Expr[Any], Expr[KeyPart[?]]) =
      model.memberType(field(name)).widen.asType match
        case '[p] =>
          Expr.summon[KeyPart[p]] match
            case Some(evidence) => (Type.of[p], select(value, name).asExprOf[p], evidence)
            case None =>
              report.errorAndAbort(
                s"${Type.show[p]} cannot be a component of a partition key; it must be a String, a number, a Boolean or an Option of one"
              )
    def key(value: Expr[T]): Expr[PartitionKey] =
      val parts = keyFields.map: name =>
        part(value, name) match
          case (t, component, evidence) =>
            t match
              case '[p] => '{ ${ evidence.asExprOf[KeyPart[p]] }.of(${ component.asExprOf[p] }) }
      '{ PartitionKey.ofParts(${ Varargs(parts) }*) }
    '{
      DocumentKey.of[T](value => ${ select('value, idField).asExprOf[String] }, value => ${ key('value) })
    }
