package io.cosmosflink.core

import io.cosmosflink.scaladsl.{Json, JsonFields}
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers

import java.nio.file.Files
import java.util.{List as JavaList, Map as JavaMap}

import scala.jdk.CollectionConverters.*

/** What the natives jar, as this build takes it, reads out of the core's frames: `tests/cases/frames`. */
final class GoldenFramesSpec extends AnyFunSuite, Matchers:
  private val expected = Json
    .parse(Files.readAllBytes(GoldenFrames.FOLDER.resolve("frames.json")))
    .fold(e => fail(e.message), identity)

  private def member(json: Json, name: String): Json = json.get(name).getOrElse(fail(s"no '$name' in $json"))

  private def fields(json: Json): JsonFields = json match
    case Json.Obj(fields) => fields
    case other => fail(s"$other is no object")

  private def json(value: Any): Json = value match
    case members: JavaMap[?, ?] => Json.obj(members.asScala.toSeq.map((name, v) => (name.toString, json(v)))*)
    case items: JavaList[?] => Json.Arr(items.asScala.map(json).toVector)
    case text: String => Json.Str(text)
    case flag: Boolean => Json.Bool(flag)
    case null => Json.Null
    case number => Json.Num(number.toString)

  fields(member(expected, "frames")).foreach: (name, content) =>
    test(s"frame $name"):
      val wanted = content match
        // What the core makes a page of.
        case Json.Obj(fields) => Json.Obj(fields -- Seq("envelope", "keyPaths"))
        case other => other
      json(GoldenFrames.read(name)) shouldBe wanted

  test("numbers on the wire"):
    json(GoldenFrames.numbers()) shouldBe member(expected, "numbers")
