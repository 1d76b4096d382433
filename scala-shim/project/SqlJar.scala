import sbt.*

/** The jar of java-shim for Flink SQL, which a job in Scala uses as it is. */
object SqlJar {
  def apply(workspace: File): File = {
    val jar = workspace / "java-shim" / "sql" / "target" / s"flink-sql-connector-cosmosdb-${Workspace.version}.jar"
    if (!jar.isFile) sys.error(s"$jar is missing; build it: cargo xtask mvn -pl sql -am package -DskipTests")
    jar
  }
}
