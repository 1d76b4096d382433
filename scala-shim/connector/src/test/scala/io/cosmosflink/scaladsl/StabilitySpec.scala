package io.cosmosflink.scaladsl

import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers

import java.nio.file.{Files, Path}

import scala.jdk.StreamConverters.*

/** Every public type says how stable it is, in Flink's words. In bytecode all types of this package are public: what is private the sources say. */
final class StabilitySpec extends AnyFunSuite, Matchers:
  private val stabilities = Set("@Public", "@PublicEvolving", "@Experimental", "@Internal")
  private val definition = raw"^(?:(?!private)[a-z]+ )*(?:class|trait|object|enum) (\w+).*".r

  /** The annotations right above a definition, by their first lines: the nearest line comes first. */
  private def annotations(above: List[String]): Set[String] = above match
    case line :: rest if line.startsWith("@") => annotations(rest) + line
    case ")" :: rest => annotations(rest.dropWhile(!_.startsWith("@")))
    case _ => Set.empty

  /** The public types at the top of a source, and what annotates each: a companion is annotated with its type. */
  private def types(source: String): Map[String, Set[String]] =
    val lines = source.linesIterator.toVector
    val found =
      for
        (line, at) <- lines.zipWithIndex
        case definition(name) <- Seq(line)
      yield name -> annotations(lines.take(at).reverse.toList).intersect(stabilities)
    found.groupMapReduce(_._1)(_._2)(_ ++ _)

  test("every public type says how stable it is"):
    val folder = Path.of("src", "main", "scala")
    val sources = Files.walk(folder).toScala(Seq).filter(_.toString.endsWith(".scala"))
    val all = sources.flatMap(file => types(Files.readString(file))).toMap
    all("CosmosDBSource") shouldBe Set("@PublicEvolving")
    all("CosmosDBSplit") shouldBe Set("@Internal")
    all.filter(_._2.size != 1) shouldBe Map.empty

  test("a type without a word is found"):
    val source = """@PublicEvolving
                   |final class Stable
                   |object Stable
                   |final case class Silent(a: Int)
                   |final private[scaladsl] class Hidden
                   |private object Hidden
                   |@Internal
                   |@implicitNotFound(
                   |  "text"
                   |)
                   |trait Inner[T]:
                   |""".stripMargin
    types(source) shouldBe Map("Stable" -> Set("@PublicEvolving"), "Silent" -> Set(), "Inner" -> Set("@Internal"))
