package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.lang.ref.WeakReference;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

class CoreLoaderTest {
    private static final Path TMP = Path.of(System.getProperty("java.io.tmpdir"));

    /** A job's class loader: the jar's own classes first, as Flink does it. */
    private static final class JobLoader extends URLClassLoader {
        JobLoader(URL[] urls) {
            super(urls, CoreLoaderTest.class.getClassLoader());
        }

        @Override
        protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
            if (name.startsWith("io.cosmosflink.")) {
                synchronized (getClassLoadingLock(name)) {
                    Class<?> found = findLoadedClass(name);
                    return found != null ? found : findClass(name);
                }
            }
            return super.loadClass(name, resolve);
        }
    }

    private static JobLoader jobLoader() {
        return new JobLoader(
                new URL[] {Natives.class.getProtectionDomain().getCodeSource().getLocation()});
    }

    private static Object optionTable(ClassLoader loader) throws ReflectiveOperationException {
        Class<?> type = loader.loadClass("io.cosmosflink.core.NativeCore");
        Object core = type.getMethod("get").invoke(null);
        return type.getMethod("optionTable").invoke(core);
    }

    private static List<String> files() throws IOException {
        try (Stream<Path> files = Files.list(TMP)) {
            return files.map(f -> f.getFileName().toString())
                    .filter(f -> f.startsWith("cosmosflink-"))
                    .toList();
        }
    }

    @Test
    @EnabledOnOs(OS.LINUX)
    void manyClassLoadersShareOneCopyAndLeaveNothing() throws Exception {
        List<Callable<String>> calls = new ArrayList<>();
        List<WeakReference<ClassLoader>> loaders = new ArrayList<>();
        for (int i = 0; i < 6; i++) {
            JobLoader loader = jobLoader();
            loaders.add(new WeakReference<>(loader));
            calls.add(() -> optionTable(loader).toString());
        }
        var pool = Executors.newFixedThreadPool(6);
        Set<String> tables;
        try {
            tables = pool.invokeAll(calls).stream()
                    .map(f -> {
                        try {
                            return f.get();
                        } catch (Exception e) {
                            throw new AssertionError(e);
                        }
                    })
                    .collect(Collectors.toSet());
        } finally {
            pool.shutdown();
        }
        assertThat(tables).hasSize(1);

        // The dynamic linker knows them by inode: one library, however many names it had.
        Set<String> inodes;
        try (Stream<String> maps = Files.lines(Path.of("/proc/self/maps"))) {
            inodes = maps.filter(line -> line.contains("cosmosflink-") && line.contains("r-xp"))
                    .map(line -> line.split(" +")[4])
                    .collect(Collectors.toSet());
        }
        assertThat(inodes).hasSize(1);
        assertThat(files())
                .singleElement()
                .asString()
                .endsWith("-" + ProcessHandle.current().pid() + ".so");
        assertThat(PosixFilePermissions.toString(Files.getPosixFilePermissions(TMP.resolve(files().get(0)))))
                .isEqualTo("rw-------");

        calls.clear();
        pool = null;
        for (int i = 0; i < 50 && loaders.stream().anyMatch(l -> l.get() != null); i++) {
            System.gc();
            Thread.sleep(20);
        }
        assertThat(loaders).allSatisfy(l -> assertThat(l.get()).isNull());
        // After class loaders went the library must still work for the others.
        assertThat(NativeCore.get().optionTable()).isNotEmpty();
    }

    @Test
    void aFileOfSomeoneElseUnderTheNameIsReplaced(@TempDir Path folder) throws Exception {
        String resource =
                "META-INF/native/" + CoreLoader.platform(System.getProperty("os.name"), System.getProperty("os.arch"))
                        + "/" + System.mapLibraryName("cosmosflink_core");
        String sha256 = new String(CoreLoader.class
                        .getClassLoader()
                        .getResourceAsStream(resource + ".sha256")
                        .readAllBytes())
                .trim();
        Path planted = folder.resolve("cosmosflink-" + sha256.substring(0, 16) + "-"
                + ProcessHandle.current().pid() + ".so");
        Files.writeString(planted, "not a library");
        Path link = CoreLoader.place(folder, resource, sha256);
        assertThat(Files.size(link)).isGreaterThan(100_000);
        assertThat(Files.size(planted)).isEqualTo(Files.size(link));
    }

    @Test
    void anInterruptDoesNotBreakTheLoadingOff(@TempDir Path folder) throws Exception {
        List<Integer> attempts = new ArrayList<>();
        CoreLoader.despiteInterrupts(() -> {
            attempts.add(attempts.size());
            if (attempts.size() < 3) {
                Thread.currentThread().interrupt();
            }
            // An interrupted thread cannot write through a channel.
            Files.writeString(folder.resolve("file"), "x");
            try (var channel = FileChannel.open(folder.resolve("file"), StandardOpenOption.WRITE)) {
                channel.write(ByteBuffer.wrap(new byte[] {1}));
            }
        });
        assertThat(attempts).hasSize(3);
        assertThat(Thread.interrupted())
                .as("the interrupt is kept for the task")
                .isTrue();
        CoreLoader.despiteInterrupts(
                () -> assertThat(Thread.currentThread().isInterrupted()).isFalse());
        assertThat(Thread.interrupted()).isFalse();
    }

    @Test
    void whatDeadProcessesLeftIsSwept(@TempDir Path folder) throws Exception {
        Process process = new ProcessBuilder("true").start();
        process.waitFor();
        Path dead = Files.createFile(folder.resolve("cosmosflink-0123456789abcdef-" + process.pid() + ".so"));
        Path link = Files.createFile(folder.resolve("cosmosflink-0123456789abcdef-" + process.pid() + "-0000-11aa.so"));
        Path alive = Files.createFile(folder.resolve(
                "cosmosflink-0123456789abcdef-" + ProcessHandle.current().pid() + ".so"));
        Path others = Files.createFile(folder.resolve("cosmosflink-fedcba9876543210-" + process.pid() + ".so"));
        for (Path old : List.of(dead, link, alive)) {
            Files.setLastModifiedTime(old, FileTime.from(Instant.now().minus(Duration.ofDays(2))));
        }
        Path other = Files.createFile(folder.resolve("cosmosflink-notes.so"));
        CoreLoader.sweep(folder);
        assertThat(dead).doesNotExist();
        assertThat(link).doesNotExist();
        assertThat(alive).exists();
        assertThat(others).as("of a process in another container perhaps").exists();
        assertThat(other).exists();
    }

    @Test
    void anUnknownPlatformIsNamed() throws Exception {
        assertThat(CoreLoader.platform("Linux", "amd64")).isEqualTo("linux-x86_64");
        assertThat(CoreLoader.platform("Mac OS X", "aarch64")).isEqualTo("macos-aarch64");
        String before = System.getProperty("os.arch");
        try (JobLoader loader = jobLoader()) {
            System.setProperty("os.arch", "s390x");
            assertThatThrownBy(() -> optionTable(loader))
                    .hasRootCauseInstanceOf(UnsatisfiedLinkError.class)
                    .rootCause()
                    .hasMessageContainingAll("linux-s390x", "only for " + CoreLoader.platform("Linux", before));
        } finally {
            System.setProperty("os.arch", before);
        }
    }
}
