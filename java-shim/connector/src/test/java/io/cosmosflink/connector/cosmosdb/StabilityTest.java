package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;

import io.cosmosflink.core.RecordView;
import java.io.IOException;
import java.lang.reflect.Modifier;
import java.nio.file.FileSystem;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.apache.flink.shaded.asm9.org.objectweb.asm.AnnotationVisitor;
import org.apache.flink.shaded.asm9.org.objectweb.asm.ClassReader;
import org.apache.flink.shaded.asm9.org.objectweb.asm.ClassVisitor;
import org.apache.flink.shaded.asm9.org.objectweb.asm.FieldVisitor;
import org.apache.flink.shaded.asm9.org.objectweb.asm.MethodVisitor;
import org.apache.flink.shaded.asm9.org.objectweb.asm.Opcodes;
import org.junit.jupiter.api.Test;

/** Every public class says how stable it is, in Flink's words. The annotations are in the class files alone, also those of the natives' jar. */
class StabilityTest {
    private static final Pattern CORE = Pattern.compile("Lio/cosmosflink/core/([^;]+);");
    private static final Set<String> STABILITIES = Set.of("Public", "PublicEvolving", "Experimental", "Internal");

    /** The public classes of the jar or folder that a class is of. */
    private static List<Class<?>> publicClasses(Class<?> one) throws Exception {
        Path where =
                Path.of(one.getProtectionDomain().getCodeSource().getLocation().toURI());
        if (Files.isDirectory(where)) {
            return publicClasses(where, one.getClassLoader());
        }
        try (FileSystem jar = FileSystems.newFileSystem(where)) {
            return publicClasses(jar.getPath("/"), one.getClassLoader());
        }
    }

    private static List<Class<?>> publicClasses(Path classes, ClassLoader loader) throws Exception {
        List<Class<?>> found = new ArrayList<>();
        try (Stream<Path> files = Files.walk(classes)) {
            for (Path file : files.filter(f -> f.toString().endsWith(".class")).toList()) {
                String name = classes.relativize(file).toString();
                name = name.substring(0, name.length() - ".class".length()).replace('/', '.');
                Class<?> type = Class.forName(name, false, loader);
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

    /** What a class says, or the one around it where it says nothing itself. */
    private static Set<String> stability(Class<?> type) throws IOException {
        Set<String> own = stabilities(type);
        return own.isEmpty() && type.getEnclosingClass() != null ? stability(type.getEnclosingClass()) : own;
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
                                    String name = descriptor.replaceAll(
                                            "^L(org/apache/flink/annotation|io/cosmosflink/core)/(.*);$", "$2");
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

    private static Map<String, Set<String>> found(Class<?> one) throws Exception {
        var found = new TreeMap<String, Set<String>>();
        for (Class<?> type : publicClasses(one)) {
            found.put(type.getName().substring(type.getPackageName().length() + 1), stability(type));
        }
        assertThat(found)
                .allSatisfy(
                        (name, stabilities) -> assertThat(stabilities).as(name).hasSize(1));
        return found;
    }

    @Test
    void everyPublicClassSaysHowStableItIs() throws Exception {
        assertThat(found(CosmosDBSource.class))
                .containsEntry("CosmosDBSource", Set.of("PublicEvolving"))
                .containsEntry("CosmosDBSplit", Set.of("Internal"));
    }

    /** Of the jar that both connectors share users meet some, and shall not use the rest. */
    @Test
    void whatUsersMeetOfTheNativesJarIsNotInternal() throws Exception {
        Map<String, Set<String>> found = found(RecordView.class);
        assertThat(found)
                .containsEntry("Submissions", Set.of("Internal"))
                .containsEntry("CosmosException$Kind", Set.of("PublicEvolving"));
        Set<String> met = new TreeSet<>();
        for (Class<?> type : publicClasses(CosmosDBSource.class)) {
            if (stability(type).contains("PublicEvolving")) {
                met.addAll(namedBy(type));
            }
        }
        assertThat(met).contains("RecordView", "OperationKind");
        assertThat(found)
                .allSatisfy((name, stability) -> assertThat(met.contains(name) && stability.contains("Internal"))
                        .as(name)
                        .isFalse());
    }

    /** The classes of the natives' jar that the public methods and fields of a class name. */
    private static Set<String> namedBy(Class<?> type) throws IOException {
        Set<String> named = new TreeSet<>();
        String file = type.getName().replace('.', '/') + ".class";
        try (var in = type.getClassLoader().getResourceAsStream(file)) {
            new ClassReader(in)
                    .accept(
                            new ClassVisitor(Opcodes.ASM9) {
                                @Override
                                public MethodVisitor visitMethod(
                                        int access, String name, String descriptor, String signature, String[] thrown) {
                                    boolean internal = (access & (Opcodes.ACC_SYNTHETIC | Opcodes.ACC_PUBLIC))
                                            != Opcodes.ACC_PUBLIC;
                                    if (!internal) {
                                        add(descriptor + signature);
                                    }
                                    return null;
                                }

                                @Override
                                public FieldVisitor visitField(
                                        int access, String name, String descriptor, String signature, Object value) {
                                    if ((access & Opcodes.ACC_PUBLIC) != 0) {
                                        add(descriptor + signature);
                                    }
                                    return null;
                                }

                                private void add(String types) {
                                    var matcher = CORE.matcher(types);
                                    while (matcher.find()) {
                                        named.add(matcher.group(1));
                                    }
                                }
                            },
                            ClassReader.SKIP_CODE);
        }
        return named;
    }
}
