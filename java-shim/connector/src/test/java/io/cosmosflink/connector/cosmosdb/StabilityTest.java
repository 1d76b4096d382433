package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.lang.reflect.Modifier;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.apache.flink.shaded.asm9.org.objectweb.asm.AnnotationVisitor;
import org.apache.flink.shaded.asm9.org.objectweb.asm.ClassReader;
import org.apache.flink.shaded.asm9.org.objectweb.asm.ClassVisitor;
import org.apache.flink.shaded.asm9.org.objectweb.asm.Opcodes;
import org.junit.jupiter.api.Test;

/** Every public class says how stable it is, in Flink's words. The annotations are in the class files alone. */
class StabilityTest {
    private static final Set<String> STABILITIES = Set.of("Public", "PublicEvolving", "Experimental", "Internal");

    private static List<Class<?>> publicClasses() throws Exception {
        Path classes = Path.of(CosmosDBSource.class
                .getProtectionDomain()
                .getCodeSource()
                .getLocation()
                .toURI());
        List<Class<?>> found = new ArrayList<>();
        try (Stream<Path> files = Files.walk(classes)) {
            for (Path file : files.filter(f -> f.toString().endsWith(".class")).toList()) {
                String name = classes.relativize(file).toString();
                name = name.substring(0, name.length() - ".class".length()).replace('/', '.');
                Class<?> type = Class.forName(name, false, CosmosDBSource.class.getClassLoader());
                if (isPublic(type)) {
                    found.add(type);
                }
            }
        }
        return found;
    }

    private static boolean isPublic(Class<?> type) {
        return Modifier.isPublic(type.getModifiers())
                && (type.getEnclosingClass() == null || isPublic(type.getEnclosingClass()));
    }

    private static Set<String> stabilities(Class<?> type) throws IOException {
        Set<String> found = new TreeSet<>();
        String file = type.getName().replace('.', '/') + ".class";
        try (var in = type.getClassLoader().getResourceAsStream(file)) {
            new ClassReader(in)
                    .accept(
                            new ClassVisitor(Opcodes.ASM9) {
                                @Override
                                public AnnotationVisitor visitAnnotation(String descriptor, boolean visible) {
                                    String name = descriptor.replaceAll("^Lorg/apache/flink/annotation/(.*);$", "$1");
                                    if (STABILITIES.contains(name)) {
                                        found.add(name);
                                    }
                                    return null;
                                }
                            },
                            ClassReader.SKIP_CODE);
        }
        return found;
    }

    @Test
    void everyPublicClassSaysHowStableItIs() throws Exception {
        var found = new TreeMap<String, Set<String>>();
        for (Class<?> type : publicClasses()) {
            found.put(type.getName().substring(type.getPackageName().length() + 1), stabilities(type));
        }
        assertThat(found)
                .containsEntry("CosmosDBSource", Set.of("PublicEvolving"))
                .containsEntry("CosmosDBSplit", Set.of("Internal"));
        assertThat(found)
                .allSatisfy(
                        (name, stabilities) -> assertThat(stabilities).as(name).hasSize(1));
    }
}
