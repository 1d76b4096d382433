package io.cosmosflink.scaladsl

import org.junit.platform.engine.discovery.DiscoverySelectors.selectClass
import org.junit.platform.launcher.core.{LauncherDiscoveryRequestBuilder, LauncherFactory}
import org.junit.platform.launcher.listeners.SummaryGeneratingListener
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers

import java.io.{PrintWriter, StringWriter}

/** The suites for connectors that Flink has, which are written for JUnit. */
final class FlinkSuitesITCase extends AnyFunSuite, Matchers:
  private def run(suite: Class[?]): String =
    val listener = SummaryGeneratingListener()
    LauncherFactory
      .create()
      .execute(LauncherDiscoveryRequestBuilder.request.selectors(selectClass(suite)).build(), listener)
    val summary = listener.getSummary
    val failures = StringWriter()
    summary.printFailuresTo(PrintWriter(failures), 30)
    s"${summary.getTestsSucceededCount} passed, ${summary.getTestsAbortedCount} passed over, " +
      s"${summary.getTotalFailureCount} failed$failures"

  test("the suite for sources"):
    run(classOf[SourceSuite]) shouldBe "8 passed, 0 passed over, 0 failed"

  test("the suite for sinks"):
    run(classOf[SinkSuite]) shouldBe "10 passed, 0 passed over, 0 failed"
