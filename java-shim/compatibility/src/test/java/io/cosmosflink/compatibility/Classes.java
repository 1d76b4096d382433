package io.cosmosflink.compatibility;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Predicate;
import java.util.jar.JarFile;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import org.objectweb.asm.ClassReader;
import org.objectweb.asm.tree.ClassNode;
import org.objectweb.asm.tree.FieldNode;
import org.objectweb.asm.tree.MethodNode;

/** The classes of some jars and of the JDK, read and not loaded: nothing that they mention has to be there. Names are internal ones. */
final class Classes implements AutoCloseable {
    private final List<JarFile> jars = new ArrayList<>();
    private final Map<String, Optional<ClassNode>> read = new HashMap<>();

    Classes(List<File> files) throws IOException {
        for (File file : files) {
            jars.add(new JarFile(file));
        }
    }

    /** Names of the classes of one jar. */
    static List<String> of(File file) throws IOException {
        try (JarFile jar = new JarFile(file)) {
            return jar.stream()
                    .map(ZipEntry::getName)
                    .filter(name -> name.endsWith(".class") && !name.startsWith("META-INF/"))
                    .map(name -> name.substring(0, name.length() - ".class".length()))
                    .filter(name -> !name.equals("module-info"))
                    .toList();
        }
    }

    /** A class; empty where neither a jar nor the JDK has it. */
    Optional<ClassNode> find(String name) {
        return read.computeIfAbsent(name, this::parse);
    }

    private Optional<ClassNode> parse(String name) {
        try (InputStream in = open(name + ".class")) {
            if (in == null) {
                return Optional.empty();
            }
            ClassNode node = new ClassNode();
            new ClassReader(in).accept(node, ClassReader.SKIP_DEBUG | ClassReader.SKIP_FRAMES);
            return Optional.of(node);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private InputStream open(String entry) throws IOException {
        for (JarFile jar : jars) {
            ZipEntry found = jar.getEntry(entry);
            if (found != null) {
                return jar.getInputStream(found);
            }
        }
        return ClassLoader.getPlatformClassLoader().getResourceAsStream(entry);
    }

    /**
     * A class, what it extends, nearest first, and then all interfaces of these.
     *
     * @throws Missing when one of them is not there
     */
    List<ClassNode> family(String name) {
        Set<ClassNode> family = new LinkedHashSet<>();
        for (String next = name; next != null; ) {
            ClassNode node = require(next);
            family.add(node);
            next = node.superName;
        }
        for (ClassNode node : List.copyOf(family)) {
            addInterfaces(node, family);
        }
        return List.copyOf(family);
    }

    private void addInterfaces(ClassNode node, Set<ClassNode> into) {
        for (String name : node.interfaces) {
            ClassNode found = require(name);
            if (into.add(found)) {
                addInterfaces(found, into);
            }
        }
    }

    ClassNode require(String name) {
        return find(name).orElseThrow(() -> new Missing(name));
    }

    /** All methods of that name and descriptor in a class and above it, nearest first. */
    Stream<MethodNode> methods(String owner, String name, String descriptor) {
        return all(owner, node -> node.methods, m -> m.name.equals(name) && m.desc.equals(descriptor));
    }

    /** All fields of that name and descriptor in a class and above it, nearest first. */
    Stream<FieldNode> fields(String owner, String name, String descriptor) {
        return all(owner, node -> node.fields, f -> f.name.equals(name) && f.desc.equals(descriptor));
    }

    private <M> Stream<M> all(
            String owner, java.util.function.Function<ClassNode, List<M>> members, Predicate<M> wanted) {
        return family(owner).stream()
                .flatMap(node -> Optional.ofNullable(members.apply(node)).orElse(Collections.emptyList()).stream())
                .filter(wanted);
    }

    @Override
    public void close() throws IOException {
        for (JarFile jar : jars) {
            jar.close();
        }
    }

    /** A class that is not there. */
    static final class Missing extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Missing(String name) {
            super(name + " is not there");
        }
    }
}
