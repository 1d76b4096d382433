package io.cosmosflink.scaladsl

import java.time.{Duration, Instant}
import java.util.UUID

/** Types that the tests derive everything for. */
object Models:
  final case class Line(sku: String, quantity: Int) derives JsonDecoder, JsonEncoder, FlinkType, CanEqual

  enum Status derives FlinkType, CanEqual:
    case Open, Paid
    case Refused(reason: String, code: Option[Int])

  final case class Order(
      id: String,
      @partitionKey region: String,
      amount: BigDecimal,
      lines: List[Line] = Nil,
      note: Option[String] = None
  ) derives JsonDecoder,
        JsonEncoder,
        DocumentKey,
        FlinkType,
        CanEqual

  sealed trait Event derives FlinkType, CanEqual
  final case class Placed(order: Order, status: Status, at: Instant) extends Event
  final case class Measured(values: Vector[Double], took: Duration, by: Map[String, Long]) extends Event
  final case class Named(uuid: UUID, tags: Set[String], either: Either[Int, String], pair: (Long, BigInt)) extends Event
  case object Nothing extends Event

  /** With a sealed type below it. */
  sealed trait Vehicle derives FlinkType, CanEqual
  final case class Boat(name: String) extends Vehicle
  sealed trait Wheeled extends Vehicle
  final case class Car(seats: Int) extends Wheeled
  case object Tram extends Wheeled
  case object Foot extends Vehicle

  /** With an array, so that a copy must be a deep one. */
  final case class Blob(name: String, bytes: Array[Byte]) derives FlinkType

  final case class Page[T](items: Seq[T], next: Option[String]) derives FlinkType, CanEqual
