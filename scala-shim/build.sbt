val flinkVersion = "2.3.0"

/** The oldest that what is compiled against the one above runs on, and the newest of its line that has Flink's suites for connectors. */
val oldestFlinkVersion = "1.20.5"
val oldestSuitesVersion = "1.20.3"

val jsoniterVersion = "2.38.17"

ThisBuild / organization := "io.cosmosflink"
ThisBuild / version := Workspace.version
ThisBuild / scalaVersion := "3.3.7"
ThisBuild / licenses := Seq(License.Apache2)

// Test JVMs run one after the other: each has a cluster and a local account in it.
Global / onChangedBuildSource := IgnoreSourceChanges
Global / concurrentRestrictions += Tags.limit(Tags.Test, 1)

val workspace = Workspace.folder

/** The jar with the natives: the one that COSMOSFLINK_NATIVE_JAR names, or java-shim's, built when it is missing or old. */
val nativeJar = taskKey[File]("The jar with the core and its natives")
ThisBuild / nativeJar := NativeJar(workspace, streams.value.log)

val flinkJvm = Seq("java.lang", "java.util", "java.util.concurrent", "java.math", "java.time")
  .map(name => s"--add-opens=java.base/$name=ALL-UNNAMED")

def shared(flink: String, suites: String) = Seq(
  scalacOptions ++= Seq("-release", "17", "-Werror", "-Wunused:all", "-deprecation", "-feature", "-unchecked"),
  libraryDependencies ++= Seq(
    "org.apache.flink" % "flink-streaming-java" % flink % Provided,
    "org.apache.flink" % "flink-connector-base" % flink % Provided,
    "org.apache.flink" % "flink-clients" % flink % Provided,
    "org.scalatest" %% "scalatest" % "3.2.19" % Test,
    "org.scalatestplus" %% "scalacheck-1-18" % "3.2.19.0" % Test,
    "org.scalacheck" %% "scalacheck" % "1.19.0" % Test,
    "org.apache.flink" % "flink-connector-base" % flink % Test classifier "tests",
    "org.apache.flink" % "flink-connector-test-utils" % suites % Test,
    // Runs the suites of the line above, which are written for JUnit.
    "org.junit.platform" % "junit-platform-launcher" % "1.11.4" % Test
  ),
  Compile / unmanagedJars += Attributed.blank((ThisBuild / nativeJar).value),
  Test / fork := true,
  Test / parallelExecution := false,
  Test / javaOptions ++= flinkJvm ++ {
    // A folder of our own for what a MiniCluster leaves behind.
    val tmp = target.value / "tmp"
    IO.createDirectory(tmp)
    Seq(
      s"-Djava.io.tmpdir=$tmp",
      "-Xmx1g",
      s"-Dcosmosflink.cosmos-local=${sys.props.getOrElse("cosmosflink.cosmos-local", s"$workspace/target/release/cosmos-local")}"
    )
  },
  // Durations and the closing lines; full stack traces of what failed.
  Test / testOptions += Tests.Argument(TestFrameworks.ScalaTest, "-oDF")
)

lazy val root = project
  .in(file("."))
  .aggregate(connector, jobs)
  // `assembly` makes the jar of the jobs alone.
  .disablePlugins(AssemblyPlugin)
  .settings(name := "cosmosflink-scala", publish / skip := true)

lazy val connector = project
  .disablePlugins(AssemblyPlugin)
  .settings(
    shared(flinkVersion, flinkVersion),
    name := "flink-connector-cosmosdb-scala",
    libraryDependencies ++= Seq(
      "com.github.plokhotnyuk.jsoniter-scala" %% "jsoniter-scala-core" % jsoniterVersion,
      // Needed where a model says `derives`, and only by the compiler.
      "com.github.plokhotnyuk.jsoniter-scala" %% "jsoniter-scala-macros" % jsoniterVersion
    ),
    Test / unmanagedJars += Attributed.blank(NativeJar.tests((ThisBuild / nativeJar).value))
  )

/** The connector's jar and its tests, as they are, on the oldest Flink. `test` leaves it out. */
lazy val compatibility = project
  .disablePlugins(AssemblyPlugin)
  .settings(
    shared(oldestFlinkVersion, oldestSuitesVersion),
    publish / skip := true,
    libraryDependencies ++= Seq(
      "com.github.plokhotnyuk.jsoniter-scala" %% "jsoniter-scala-core" % jsoniterVersion,
      // The suites bring older ones than the launcher above takes.
      "org.junit.jupiter" % "junit-jupiter" % "5.11.4" % Test,
      "org.junit.vintage" % "junit-vintage-engine" % "5.11.4" % Test
    ),
    Test / unmanagedJars += Attributed.blank(NativeJar.tests((ThisBuild / nativeJar).value)),
    Test / unmanagedJars += Attributed.blank((connector / Compile / packageBin).value),
    Test / unmanagedJars ++= (connector / Test / exportedProducts).value,
    Test / definedTests := (connector / Test / definedTests).value
      .filter(test => Set("FlinkSuitesITCase", "PipelineITCase", "FlinkTypeSpec").exists(test.name.endsWith))
  )

/** The job of docs/sql.md, over the jar that the SQL client takes. Apart, since no other class path has a planner. `test` leaves it out. */
lazy val sql = project
  .dependsOn(connector % "test->test")
  .disablePlugins(AssemblyPlugin)
  .settings(
    shared(flinkVersion, flinkVersion),
    publish / skip := true,
    libraryDependencies ++= Seq("flink-table-api-java-bridge", "flink-table-planner-loader", "flink-table-runtime")
      .map(name => "org.apache.flink" % name % flinkVersion % Test),
    Test / unmanagedSources += workspace / "tests" / "readme" / "OrdersSql.scala",
    Test / unmanagedJars += Attributed.blank(NativeJar.tests((ThisBuild / nativeJar).value)),
    Test / unmanagedJars += Attributed.blank(SqlJar(workspace))
  )

lazy val jobs = project
  .dependsOn(connector % "compile->compile;test->test")
  .settings(
    shared(flinkVersion, flinkVersion),
    name := "cosmosflink-jobs-scala",
    Test / unmanagedJars += Attributed.blank(NativeJar.tests((ThisBuild / nativeJar).value)),
    assembly / test := {},
    assembly / mainClass := Some("io.cosmosflink.scaladsl.jobs.FlinkCosmosSinkJob"),
    assembly / assemblyOutputPath := target.value / s"cosmosflink-jobs-scala-${version.value}.jar",
    // A real distribution has a Scala 2.12 library in lib, and Flink asks the parent first for `scala.`.
    // io.cosmosflink.core is never renamed: the natives are bound by that package's name.
    assembly / assemblyShadeRules := Seq(
      ShadeRule.rename("scala.**" -> "cosmosflink.shaded.scala.@1").inAll,
      ShadeRule
        .rename("com.github.plokhotnyuk.jsoniter_scala.**" -> "cosmosflink.shaded.jsoniter_scala.@1")
        .inAll
    ),
    // The macros have done their work.
    assembly / assemblyExcludedJars := (assembly / fullClasspath).value.filter(
      _.data.getName.startsWith("jsoniter-scala-macros")
    ),
    assembly / assemblyMergeStrategy := {
      case PathList("META-INF", "native", _*) => MergeStrategy.singleOrError
      case PathList("META-INF", "services", _*) => MergeStrategy.concat
      case path if path.endsWith(".tasty") || path.endsWith("module-info.class") => MergeStrategy.discard
      case PathList("META-INF", _*) => MergeStrategy.discard
      case PathList("rootdoc.txt" | "library.properties" | "scala-asm.properties") => MergeStrategy.discard
      case _ => MergeStrategy.singleOrError
    }
  )
