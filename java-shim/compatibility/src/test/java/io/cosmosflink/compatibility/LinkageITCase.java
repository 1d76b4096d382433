package io.cosmosflink.compatibility;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/**
 * Resolves everything that our classes name in Flink against the classes of each supported version, whether a test reaches it or not.
 * The folder {@code cosmosflink.flinks} holds one folder of jars for each version; {@code cosmosflink.jars} lists the jars to look at,
 * with colons between them.
 */
class LinkageITCase {
    /** What some version lacks and does not miss: the end of a line. */
    private static final List<String> KNOWN = List.of(
            // Abstract in 1.20, which calls the other one: createWriter(WriterInitContext).
            "org/apache/flink/api/connector/sink2/Sink.createWriter(Lorg/apache/flink/api/connector/sink2/Sink$InitContext;)"
                    + "Lorg/apache/flink/api/connector/sink2/SinkWriter; has no implementation");

    /** Since 2.2. */
    private static final String REASSIGNMENT =
            "org/apache/flink/api/connector/source/SupportsSplitReassignmentOnRecovery";

    /**
     * Both connectors' classes that implement it, and the calls of their factories, which are made where Flink has it. That no other
     * version loads them is what the suites on 1.20 show.
     */
    private static final Pattern REASSIGNING = Pattern.compile(
            "io/cosmosflink/\\w+(/\\w+)*/ReassigningCosmosDBSource\\$?: .*|.*: io/cosmosflink/\\S+/ReassigningCosmosDBSource\\.of\\(.*");

    /** Since 2.1. */
    private static final String VARIANT = "org/apache/flink/types/variant/Variant";

    /** The class for columns of that type, which no table of an older version has. */
    private static final String OF_VARIANTS = "io/cosmosflink/connector/cosmosdb/table/Variants: ";

    /** Since 2.0. */
    private static final String SHUFFLE =
            "org/apache/flink/table/connector/source/abilities/SupportsLookupCustomShuffle";

    /** The source that implements it, and the call of the factory, which is made where Flink has it. */
    private static final Pattern SHUFFLING =
            Pattern.compile("io/cosmosflink/connector/cosmosdb/table/ShufflingDynamicSource(\\$ByPartitionKey)?: .*"
                    + "|.*: io/cosmosflink/connector/cosmosdb/table/ShufflingDynamicSource\\.of\\(.*");

    /** The class for indexes, since 2.1 as well, by which delta joins are planned. */
    private static final String OF_INDEXES = "io/cosmosflink/connector/cosmosdb/table/Indexes: ";

    private final List<File> ours = Stream.of(
                    System.getProperty("cosmosflink.jars").split(":"))
            .filter(path -> !path.isEmpty())
            .map(File::new)
            .toList();

    @TestFactory
    Stream<DynamicTest> everythingThatOurClassesNameIsThere() {
        File[] versions = new File(System.getProperty("cosmosflink.flinks")).listFiles();
        assertThat(versions).hasSizeGreaterThanOrEqualTo(4);
        return Stream.of(versions)
                .sorted()
                .map(version -> DynamicTest.dynamicTest(version.getName(), () -> {
                    List<File> jars = new ArrayList<>(ours);
                    jars.addAll(List.of(version.listFiles()));
                    try (Classes classes = new Classes(jars)) {
                        List<String> names = new ArrayList<>();
                        for (File jar : ours) {
                            names.addAll(Classes.of(jar).stream()
                                    .filter(name -> name.startsWith("io/cosmosflink/"))
                                    .toList());
                        }
                        assertThat(names).hasSizeGreaterThan(50);
                        Set<String> problems = new TreeSet<>(Linkage.problems(classes, names));
                        if (classes.find(REASSIGNMENT).isEmpty()) {
                            problems.removeIf(REASSIGNING.asMatchPredicate());
                        }
                        if (classes.find(SHUFFLE).isEmpty()) {
                            problems.removeIf(SHUFFLING.asMatchPredicate());
                        }
                        if (classes.find(VARIANT).isEmpty()) {
                            problems.removeIf(line -> line.startsWith(OF_VARIANTS) || line.startsWith(OF_INDEXES));
                        }
                        problems.removeIf(line -> KNOWN.stream().anyMatch(line::endsWith));
                        assertThat(problems)
                                .as("what Flink %s lacks", version.getName())
                                .isEmpty();
                    }
                }));
    }

    /** The reader of Flink 2.3 asks for more than the rate limiter of 1.20 has. */
    @Test
    void whatDoesNotFitIsSeen() throws IOException {
        File flinks = new File(System.getProperty("cosmosflink.flinks"));
        List<File> jars = new ArrayList<>();
        jars.add(new File(flinks, "2.3.0/flink-connector-base-2.3.0.jar"));
        jars.addAll(List.of(new File(flinks, "1.20.5").listFiles()));
        try (Classes classes = new Classes(jars)) {
            assertThat(Linkage.problems(classes, Classes.of(jars.get(0))))
                    .contains("org/apache/flink/connector/base/source/reader/SourceReaderBase: "
                            + "org/apache/flink/api/connector/source/util/ratelimit/RateLimiter.acquire(I)"
                            + "Ljava/util/concurrent/CompletionStage; is not there");
        }
    }
}
