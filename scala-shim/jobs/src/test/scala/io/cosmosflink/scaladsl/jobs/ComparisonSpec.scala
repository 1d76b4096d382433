package io.cosmosflink.scaladsl.jobs

import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers

import java.nio.file.{Files, Path}

/** `docs/java-vs-scala.md` quotes code that is in the tree, whatever its indentation. */
class ComparisonSpec extends AnyFunSuite with Matchers:
  private val root = Path.of("../..")
  private val excerpt = "(?s)`([^`\n]+\\.(?:java|scala))`:\n\n```[a-z]+\n(.*?)\n```".r

  private def lines(text: String): Vector[String] = text.linesIterator.map(_.trim).toVector

  private val excerpts =
    excerpt
      .findAllMatchIn(Files.readString(root.resolve("docs/java-vs-scala.md")))
      .map(m => m.group(1) -> m.group(2))
      .toList

  test("there are excerpts of both"):
    excerpts.map((file, _) => file.drop(file.lastIndexOf('.'))).toSet shouldBe Set(".java", ".scala")

  for ((file, text), number) <- excerpts.zipWithIndex do
    test(s"excerpt ${number + 1} is in $file"):
      val source = lines(Files.readString(root.resolve(file)))
      text
        .split("\n\\.\\.\n")
        .foreach: piece =>
          withClue(s"$piece\n")(source.containsSlice(lines(piece)) shouldBe true)
