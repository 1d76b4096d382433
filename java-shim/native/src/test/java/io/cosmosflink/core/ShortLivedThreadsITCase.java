package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/**
 * A Flink client loads the library on a thread that ends with the submission. The next submission's thread may get the same
 * address from the system, which an allocator must not mistake for the first one. In a JVM of its own, since a mistake is a crash.
 */
class ShortLivedThreadsITCase {
    private static final int THREADS = 50;

    @Test
    void theThreadThatLoadedTheLibraryMayEnd() throws Exception {
        Process process = new ProcessBuilder(
                        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "-Xcheck:jni",
                        "-XX:ErrorFile=" + System.getProperty("java.io.tmpdir") + "/crash-%p.log",
                        "-Djava.io.tmpdir=" + System.getProperty("java.io.tmpdir"),
                        "-cp",
                        System.getProperty("java.class.path"),
                        Main.class.getName())
                .redirectErrorStream(true)
                .start();
        process.getOutputStream().close();
        String output = new String(process.getInputStream().readAllBytes());
        assertThat(process.waitFor(60, TimeUnit.SECONDS)).isTrue();
        assertThat(process.exitValue()).as(output).isZero();
        assertThat(output).contains(THREADS + " threads called the core").doesNotContain("WARNING in native method");
    }

    /** What the other JVM runs. */
    static final class Main {
        public static void main(String[] arguments) throws InterruptedException {
            for (int i = 0; i < THREADS; i++) {
                Thread thread =
                        new Thread(() -> NativeCore.get().resolveOptions(Map.of(), Map.of("COSMOS_DB", "orders")));
                thread.start();
                thread.join();
            }
            System.out.println(THREADS + " threads called the core");
        }
    }
}
