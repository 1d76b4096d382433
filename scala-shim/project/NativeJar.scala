import java.io.File

import sbt.*
import sbt.util.Logger

import scala.sys.process.{Process, ProcessLogger}

/** The natives jar of java-shim, the only thing that this build takes from there. */
object NativeJar {
  private val name = s"cosmosflink-native-${Workspace.version}"

  /** The jar that the environment names, or java-shim's own, built by Maven when it is missing or older than its sources. */
  def apply(workspace: File, log: Logger): File = sys.env.get("COSMOSFLINK_NATIVE_JAR").filter(_.nonEmpty) match {
    case Some(path) =>
      val jar = file(path).getAbsoluteFile
      if (!jar.isFile)
        sys.error(s"COSMOSFLINK_NATIVE_JAR is '$path', which is not a file; build it with Maven in java-shim")
      jar
    case None => synchronized(own(workspace, log))
  }

  /** The jar of its test helpers, which Maven puts beside it. */
  def tests(jar: File): File = jar.getParentFile / s"$name-tests.jar"

  private def own(workspace: File, log: Logger): File = {
    val shim = workspace / "java-shim"
    val jar = shim / "native" / "target" / s"$name.jar"
    val sources = newest(Seq(shim / "pom.xml", shim / "native" / "pom.xml", shim / "native" / "src")) max
      newest(Seq(workspace / "rust-core" / "src", workspace / "rust-core" / "Cargo.toml", workspace / "Cargo.lock"))
    if (!jar.isFile || !tests(jar).isFile || jar.lastModified < sources) {
      log.info("building the natives jar with Maven")
      val command = Seq("mvn", "-q", "-B", "-pl", "native", "-am", "package", "-DskipTests")
      val exit = Process(command, shim) ! ProcessLogger(line => log.info(line), line => log.warn(line))
      if (exit != 0) sys.error(s"'${command.mkString(" ")}' in $shim ended with $exit; its output is above")
      // Maven leaves a jar alone whose content is the same.
      IO.touch(jar)
    }
    jar
  }

  private def newest(roots: Seq[File]): Long =
    roots.flatMap(root => root.allPaths.get()).map(_.lastModified).foldLeft(0L)(_ max _)
}
