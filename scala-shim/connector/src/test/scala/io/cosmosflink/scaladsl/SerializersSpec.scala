package io.cosmosflink.scaladsl

import io.cosmosflink.scaladsl.FakeCore.split
import org.scalacheck.{Arbitrary, Gen}
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatestplus.scalacheck.ScalaCheckPropertyChecks

import java.io.IOException

import scala.util.Try

final class SerializersSpec extends AnyFunSuite, Matchers, ScalaCheckPropertyChecks:
  private val core = FakeCore()
  private val splits = CosmosDBSplitSerializer(() => core)
  private val states = CosmosDBSourceStateSerializer

  private given Arbitrary[CosmosDBSplit] = Arbitrary(Gen.resultOf(split(_: Int, _: Int)))

  test("splits are the core's own bytes"):
    forAll: (split: CosmosDBSplit) =>
      splits.serialize(split) shouldBe split.position
      splits.deserialize(1, splits.serialize(split)) shouldBe split

  test("the enumerator's state is the core's own bytes"):
    forAll: (head: Byte, tail: Array[Byte]) =>
      val state = CosmosDBSourceState(head +: tail)
      states.serialize(state) shouldBe head +: tail
      states.deserialize(1, states.serialize(state)) shouldBe state

  test("restored splits are spread anew where Flink does that"):
    val marker = "org.apache.flink.api.connector.source.SupportsSplitReassignmentOnRecovery"
    // Flink before 2.2 has none.
    CosmosDBSource.reassigns shouldBe Try(Class.forName(marker)).isSuccess

  test("state of a newer connector, and foreign state, are errors that say so"):
    (the[IOException] thrownBy splits.deserialize(2, Array.empty)).getMessage should include("splits in version 2")
    (the[IOException] thrownBy splits.deserialize(1, Array[Byte](1))).getMessage shouldBe
      "cannot restore a split: foreign split bytes"
    (the[IOException] thrownBy states.deserialize(9, Array.empty)).getMessage should include("state in version 9")
    (the[IOException] thrownBy states.deserialize(1, Array.empty)).getMessage should include("empty")
