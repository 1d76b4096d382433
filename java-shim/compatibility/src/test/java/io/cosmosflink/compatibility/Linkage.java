package io.cosmosflink.compatibility;

import static org.objectweb.asm.Opcodes.ACC_ABSTRACT;
import static org.objectweb.asm.Opcodes.ACC_FINAL;
import static org.objectweb.asm.Opcodes.ACC_INTERFACE;
import static org.objectweb.asm.Opcodes.ACC_PRIVATE;
import static org.objectweb.asm.Opcodes.ACC_STATIC;
import static org.objectweb.asm.Opcodes.INVOKESPECIAL;

import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.objectweb.asm.Handle;
import org.objectweb.asm.Type;
import org.objectweb.asm.tree.AbstractInsnNode;
import org.objectweb.asm.tree.ClassNode;
import org.objectweb.asm.tree.FieldInsnNode;
import org.objectweb.asm.tree.InvokeDynamicInsnNode;
import org.objectweb.asm.tree.LdcInsnNode;
import org.objectweb.asm.tree.MethodInsnNode;
import org.objectweb.asm.tree.MethodNode;
import org.objectweb.asm.tree.TypeInsnNode;

/**
 * What a class would stumble over at run time: classes, methods and fields of Flink that it names and that are not there, methods of
 * Flink that it had to implement, and final ones that it overrides.
 */
final class Linkage {
    private static final String FLINK = "org/apache/flink/";

    private final Classes classes;
    private final Set<String> problems = new TreeSet<>();

    private Linkage(Classes classes) {
        this.classes = classes;
    }

    /** The problems of some classes, each one line that begins with the class; empty when there are none. */
    static Set<String> problems(Classes classes, List<String> names) {
        Linkage linkage = new Linkage(classes);
        names.forEach(name -> linkage.check(classes.require(name)));
        return linkage.problems;
    }

    private void check(ClassNode node) {
        Stream.concat(Stream.ofNullable(node.superName), node.interfaces.stream())
                .forEach(name -> type(node, Type.getObjectType(name)));
        node.fields.forEach(field -> type(node, Type.getType(field.desc)));
        for (MethodNode method : node.methods) {
            type(node, Type.getMethodType(method.desc));
            method.exceptions.forEach(name -> type(node, Type.getObjectType(name)));
            for (AbstractInsnNode instruction : method.instructions) {
                if (!isForwarder(method, instruction)) {
                    instruction(node, instruction);
                }
            }
        }
        inheritance(node);
    }

    /**
     * Whether a method calls the default method that it overrides. Scala's compiler makes such methods for all that it inherits; where
     * Flink has no such method, nobody calls the one that was made.
     */
    private static boolean isForwarder(MethodNode method, AbstractInsnNode instruction) {
        return instruction instanceof MethodInsnNode call
                && call.getOpcode() == INVOKESPECIAL
                && call.itf
                && call.name.equals(method.name)
                && call.desc.equals(method.desc);
    }

    private void instruction(ClassNode node, AbstractInsnNode instruction) {
        if (instruction instanceof MethodInsnNode call) {
            method(node, call.owner, call.name, call.desc, call.itf);
        } else if (instruction instanceof FieldInsnNode access) {
            field(node, access.owner, access.name, access.desc);
        } else if (instruction instanceof TypeInsnNode use) {
            type(node, Type.getObjectType(use.desc));
        } else if (instruction instanceof LdcInsnNode constant && constant.cst instanceof Type named) {
            type(node, named);
        } else if (instruction instanceof InvokeDynamicInsnNode made) {
            type(node, Type.getMethodType(made.desc));
            for (Object argument : made.bsmArgs) {
                if (argument instanceof Handle handle) {
                    handle(node, handle);
                } else if (argument instanceof Type named) {
                    type(node, named);
                }
            }
        }
    }

    private void handle(ClassNode node, Handle handle) {
        if (handle.getDesc().startsWith("(")) {
            method(node, handle.getOwner(), handle.getName(), handle.getDesc(), handle.isInterface());
        } else {
            field(node, handle.getOwner(), handle.getName(), handle.getDesc());
        }
    }

    private void type(ClassNode node, Type type) {
        switch (type.getSort()) {
            case Type.METHOD -> {
                type(node, type.getReturnType());
                Stream.of(type.getArgumentTypes()).forEach(argument -> type(node, argument));
            }
            case Type.ARRAY -> type(node, type.getElementType());
            case Type.OBJECT -> {
                if (type.getInternalName().startsWith(FLINK)
                        && classes.find(type.getInternalName()).isEmpty()) {
                    problem(node, type.getInternalName() + " is not there");
                }
            }
            default -> {}
        }
    }

    private void method(ClassNode node, String owner, String name, String descriptor, boolean ofInterface) {
        String what = owner + "." + name + descriptor;
        resolve(node, owner, what, () -> {
            type(node, Type.getMethodType(descriptor));
            MethodNode found =
                    classes.methods(owner, name, descriptor).findFirst().orElse(null);
            boolean isInterface = (classes.require(owner).access & ACC_INTERFACE) != 0;
            if (found == null || owner.startsWith(FLINK) && (found.access & ACC_PRIVATE) != 0) {
                problem(node, what + " is not there");
            } else if (isInterface != ofInterface) {
                problem(node, owner + (isInterface ? " is an interface" : " is no interface"));
            }
        });
    }

    private void field(ClassNode node, String owner, String name, String descriptor) {
        String what = owner + "." + name + " " + descriptor;
        resolve(node, owner, what, () -> {
            type(node, Type.getType(descriptor));
            if (classes.fields(owner, name, descriptor).findFirst().isEmpty()) {
                problem(node, what + " is not there");
            }
        });
    }

    /** Looks at what Flink's classes and their children have; what belongs to others is compiled against what it runs with. */
    private void resolve(ClassNode node, String owner, String what, Runnable check) {
        if (owner.startsWith("[")) {
            return;
        }
        try {
            if (owner.startsWith(FLINK) || isChild(owner)) {
                check.run();
            }
        } catch (Classes.Missing e) {
            problem(node, what + ": " + e.getMessage());
        }
    }

    /** Whether a class of ours stands on one of Flink's. */
    private boolean isChild(String name) {
        return classes.find(name).isPresent()
                && !name.startsWith("java/")
                && classes.family(name).stream().anyMatch(node -> node.name.startsWith(FLINK));
    }

    private void inheritance(ClassNode node) {
        List<ClassNode> family;
        try {
            family = classes.family(node.name);
        } catch (Classes.Missing e) {
            problem(node, e.getMessage());
            return;
        }
        for (ClassNode parent : family) {
            if (!parent.name.startsWith(FLINK)) {
                continue;
            }
            if ((parent.access & ACC_FINAL) != 0) {
                problem(node, parent.name + " is final");
            }
            for (MethodNode method : parent.methods) {
                MethodNode ours = classes.methods(node.name, method.name, method.desc)
                        .findFirst()
                        .orElseThrow();
                boolean isFinal = (method.access & ACC_FINAL) != 0 && (method.access & (ACC_PRIVATE | ACC_STATIC)) == 0;
                if (isFinal && node.methods.contains(ours)) {
                    problem(node, parent.name + "." + method.name + method.desc + " is final");
                }
                if ((method.access & ACC_ABSTRACT) != 0
                        && (node.access & ACC_ABSTRACT) == 0
                        && !isImplemented(node, method)) {
                    problem(node, parent.name + "." + method.name + method.desc + " has no implementation");
                }
            }
        }
    }

    private boolean isImplemented(ClassNode node, MethodNode method) {
        return classes.methods(node.name, method.name, method.desc).anyMatch(m -> (m.access & ACC_ABSTRACT) == 0);
    }

    private void problem(ClassNode node, String what) {
        problems.add(node.name + ": " + what);
    }
}
