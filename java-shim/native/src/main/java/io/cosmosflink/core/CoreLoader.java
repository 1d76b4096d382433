package io.cosmosflink.core;

import java.io.IOException;
import java.io.InputStream;
import java.nio.channels.ClosedByInterruptException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Loads the core for this class loader.
 *
 * <p>The JVM lets one path be loaded by one class loader only, and a Flink process has a class loader per job. So the library is
 * extracted once per process, and every class loader loads a hard link of its own, deleted at once: to the JVM that is another file,
 * to the dynamic linker the same one, and all jobs share one core with its connections. The extracted file stays until the JVM exits.
 */
final class CoreLoader {
    private static final Logger LOG = LoggerFactory.getLogger(CoreLoader.class);
    private static final String RESOURCES = "META-INF/native/";
    private static final String NAME = "cosmosflink_core";
    private static final Pattern OURS = Pattern.compile("cosmosflink-[0-9a-f]{16}-(\\d+)(-[0-9a-f-]+)?\\.so");
    /** Interned, so the same object in every class loader: only one of them extracts at a time. */
    private static final Object PROCESS_LOCK = "io.cosmosflink.core.CoreLoader.lock".intern();

    /** A cancelled task is interrupted about every half minute: more than this is no coincidence. */
    private static final int MAX_INTERRUPTED = 10;

    /** Containers may share the folder, and none sees the processes of another: what is this old is not one that is just being loaded. */
    private static final Duration LEFT_BEHIND = Duration.ofDays(1);

    private static boolean loaded;

    private CoreLoader() {}

    /**
     * Loads the library unless this class loader has it already. A failure is not remembered: what was wrong with the folder may have
     * been mended when a restarted job tries again.
     */
    static synchronized void load() {
        if (loaded) {
            return;
        }
        String folder = System.getProperty("java.io.tmpdir");
        try {
            despiteInterrupts(() -> loadOnce(Path.of(folder)));
            loaded = true;
        } catch (IOException e) {
            UnsatisfiedLinkError error = error("cannot place the native library in java.io.tmpdir (" + folder + "): "
                    + e + "; make the folder writable, or name another one");
            error.initCause(e);
            throw error;
        }
    }

    /** Something that reads or writes files. */
    interface FileAction {
        void run() throws IOException;
    }

    /**
     * Runs an action that an interrupt would break off, again if need be: Flink interrupts a task that is cancelled while it opens, and
     * the next attempt of the job uses the same class loader. The thread is interrupted again afterwards.
     */
    static void despiteInterrupts(FileAction action) throws IOException {
        boolean interrupted = Thread.interrupted();
        try {
            for (int attempt = 1; ; attempt++) {
                try {
                    action.run();
                    return;
                } catch (ClosedByInterruptException e) {
                    interrupted = true;
                    Thread.interrupted();
                    if (attempt == MAX_INTERRUPTED) {
                        throw e;
                    }
                }
            }
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    private static void loadOnce(Path folder) throws IOException {
        String platform = platform(System.getProperty("os.name"), System.getProperty("os.arch"));
        String resource = RESOURCES + platform + "/" + System.mapLibraryName(NAME);
        String sha256 = expected(resource, platform);
        Path link;
        synchronized (PROCESS_LOCK) {
            sweep(folder);
            link = place(folder, resource, sha256);
        }
        try {
            System.load(link.toString());
        } finally {
            Files.deleteIfExists(link);
        }
        int abi = Natives.abiVersion();
        if (abi != abiVersion()) {
            throw error("the native library speaks version " + abi + " of the boundary, the jar version " + abiVersion()
                    + "; use jar and library of one build");
        }
        LOG.info("loaded the core ({}, sha256 {})", platform, sha256);
    }

    /** The boundary that this jar speaks: the number is the core's own, copied when the jar was built. */
    static int abiVersion() throws IOException {
        try (InputStream in = CoreLoader.class.getClassLoader().getResourceAsStream(RESOURCES + "abi-version")) {
            String text = in == null ? "" : new String(in.readAllBytes(), StandardCharsets.US_ASCII).trim();
            if (!text.matches("\\d{1,9}")) {
                throw error(RESOURCES + "abi-version in the jar is missing or damaged; build the jar again");
            }
            return Integer.parseInt(text);
        }
    }

    /** A private link to, or copy of, the one extracted file of this process. */
    static Path place(Path folder, String resource, String sha256) throws IOException {
        long pid = ProcessHandle.current().pid();
        String stem = "cosmosflink-" + sha256.substring(0, 16) + "-" + pid;
        Path base = folder.resolve(stem + ".so");
        Path link = folder.resolve(stem + "-" + UUID.randomUUID() + ".so");
        for (int attempt = 0; attempt < 2; attempt++) {
            if (!Files.isRegularFile(base, java.nio.file.LinkOption.NOFOLLOW_LINKS)) {
                extract(resource, base, link);
            }
            try {
                Files.createLink(link, base);
            } catch (UnsupportedOperationException | IOException e) {
                LOG.warn(
                        "hard links do not work in {} ({}); this job loads a copy of the core of its own",
                        folder,
                        e.toString());
                extractTo(resource, link);
            }
            // The content is what counts: the folder may be everybody's, and the name can be guessed.
            if (sha256.equals(digest(link)) && Files.getOwner(link).equals(ownerOfNew(folder))) {
                return link;
            }
            LOG.warn("{} is not the library of this jar; it is extracted again", base);
            Files.deleteIfExists(link);
            Files.deleteIfExists(base);
        }
        throw error(base + " is changed by someone else; set java.io.tmpdir to a folder that only this user can write");
    }

    private static void extract(String resource, Path base, Path temporary) throws IOException {
        try {
            extractTo(resource, temporary);
            try {
                // A link, because unlike a move it never replaces a file that another class loader has mapped.
                Files.createLink(base, temporary);
            } catch (FileAlreadyExistsException e) {
                LOG.debug("{} is there already", base);
            } catch (UnsupportedOperationException | IOException e) {
                Files.move(temporary, base);
            }
            // One name per process and version of the library, however many jobs there are.
            base.toFile().deleteOnExit();
        } finally {
            Files.deleteIfExists(temporary);
        }
    }

    private static void extractTo(String resource, Path file) throws IOException {
        try (InputStream in = CoreLoader.class.getClassLoader().getResourceAsStream(resource);
                var out = Files.newByteChannel(
                        file, EnumSet.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE), ownerOnly())) {
            if (in == null) {
                throw new IOException(resource + " is gone from the jar; was the jar replaced while it was in use?");
            }
            byte[] buffer = new byte[1 << 16];
            for (int n; (n = in.read(buffer)) >= 0; ) {
                var bytes = java.nio.ByteBuffer.wrap(buffer, 0, n);
                while (bytes.hasRemaining()) {
                    out.write(bytes);
                }
            }
        }
    }

    private static FileAttribute<?>[] ownerOnly() {
        return FileSystems.getDefault().supportedFileAttributeViews().contains("posix")
                ? new FileAttribute<?>[] {
                    PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"))
                }
                : new FileAttribute<?>[0];
    }

    private static java.nio.file.attribute.UserPrincipal ownerOfNew(Path folder) throws IOException {
        Path probe = Files.createTempFile(folder, "cosmosflink-", ".probe");
        try {
            return Files.getOwner(probe);
        } finally {
            Files.delete(probe);
        }
    }

    private static String expected(String resource, String platform) throws IOException {
        ClassLoader loader = CoreLoader.class.getClassLoader();
        if (loader.getResource(resource) == null) {
            List<String> there = new ArrayList<>();
            for (String os : Set.of("linux", "macos", "windows")) {
                for (String arch : Set.of("x86_64", "aarch64")) {
                    for (String file :
                            Set.of("libcosmosflink_core.so", "libcosmosflink_core.dylib", "cosmosflink_core.dll")) {
                        if (loader.getResource(RESOURCES + os + "-" + arch + "/" + file) != null) {
                            there.add(os + "-" + arch);
                        }
                    }
                }
            }
            throw error("this jar holds no native library for " + platform + ", only for "
                    + (there.isEmpty()
                            ? "no platform at all"
                            : String.join(", ", there.stream().sorted().toList()))
                    + "; build cosmosflink-native on that platform, or run on one of these");
        }
        try (InputStream in = loader.getResourceAsStream(resource + ".sha256")) {
            String text = in == null ? "" : new String(in.readAllBytes(), StandardCharsets.US_ASCII).trim();
            if (!text.matches("[0-9a-f]{64}")) {
                throw error(resource + ".sha256 in the jar is missing or damaged; build the jar again");
            }
            return text;
        }
    }

    /** {@code linux-x86_64} and the like, in the words of the jar's folders. */
    static String platform(String osName, String osArch) {
        String os = osName.toLowerCase(Locale.ROOT);
        String arch = osArch.toLowerCase(Locale.ROOT);
        String system = os.startsWith("linux")
                ? "linux"
                : os.startsWith("mac") ? "macos" : os.startsWith("windows") ? "windows" : os;
        String processor =
                switch (arch) {
                    case "amd64", "x86_64", "x64" -> "x86_64";
                    case "aarch64", "arm64" -> "aarch64";
                    default -> arch;
                };
        return system + "-" + processor;
    }

    /** Removes what processes left behind that ended without running their exit hooks. */
    static void sweep(Path folder) {
        try (DirectoryStream<Path> files = Files.newDirectoryStream(folder, "cosmosflink-*.so")) {
            for (Path file : files) {
                Matcher name = OURS.matcher(file.getFileName().toString());
                if (name.matches()
                        && ProcessHandle.of(Long.parseLong(name.group(1))).isEmpty()
                        && Files.getLastModifiedTime(file)
                                .toInstant()
                                .isBefore(Instant.now().minus(LEFT_BEHIND))) {
                    Files.deleteIfExists(file);
                }
            }
        } catch (IOException | RuntimeException e) {
            // Somebody else's file, or gone in between: not ours to care for.
            LOG.debug("cannot tidy {}", folder, e);
        }
    }

    private static String digest(Path file) throws IOException {
        try (var in = new DigestInputStream(Files.newInputStream(file), MessageDigest.getInstance("SHA-256"))) {
            in.transferTo(java.io.OutputStream.nullOutputStream());
            return HexFormat.of().formatHex(in.getMessageDigest().digest());
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every JVM has SHA-256", e);
        }
    }

    private static UnsatisfiedLinkError error(String message) {
        return new UnsatisfiedLinkError(message);
    }
}
