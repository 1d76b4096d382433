import sbt.*

/** The repository around this build. */
object Workspace {
  val folder: File = file("..").getCanonicalFile

  /** The version of everything in it, which its Cargo.toml says. */
  lazy val version: String = {
    val manifest = folder / "Cargo.toml"
    val line = "version = \"([^\"]+)\"".r
    IO.readLines(manifest)
      .collectFirst { case line(version) => version }
      .getOrElse(sys.error(s"$manifest says no version"))
  }
}
