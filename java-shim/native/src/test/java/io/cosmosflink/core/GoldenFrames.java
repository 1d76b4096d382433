package io.cosmosflink.core;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.ToIntFunction;

/** The frames of {@code tests/cases/frames}, read by this jar into the values that {@code frames.json} is written in. For both shims' tests. */
public final class GoldenFrames {
    /** Seen from a module of {@code java-shim} or {@code scala-shim}. */
    public static final Path FOLDER = Path.of("../../tests/cases/frames");

    private GoldenFrames() {}

    /** A frame as the core writes it. */
    public static byte[] bytes(String name) {
        try {
            return HexFormat.of()
                    .parseHex(Files.readString(FOLDER.resolve(name + ".hex")).replaceAll("\\s", ""));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** What the frame holds: maps, lists, texts, numbers and booleans. */
    public static Object read(String name) {
        byte[] frame = bytes(name);
        return switch (name) {
            case "options" ->
                Frames.options(frame).stream().map(GoldenFrames::option).toList();
            case "map" -> {
                List<List<String>> entries = new ArrayList<>();
                Frames.map(frame).forEach((key, value) -> entries.add(List.of(key, value)));
                yield entries;
            }
            case "strings" -> strings(frame);
            case "split-list" ->
                Frames.splits(frame).stream().map(GoldenFrames::split).toList();
            case "page" -> page(new Page(frame, frame.length));
            case "operations" ->
                SubmittedOperations.operations(frame).stream()
                        .map(GoldenFrames::operation)
                        .toList();
            case "completions" -> completions(Frames.completions(frame));
            case "event" -> event(FrameReader.open(frame, FrameKind.EVENT));
            case "actions" -> actions(EnumeratorFrames.actions(frame));
            case "discovery" -> discovery(FrameReader.open(frame, FrameKind.DISCOVERY));
            case "metrics" -> {
                CoreMetrics metrics = CoreMetrics.decode(frame);
                List<Number> values = Frames.metricTable(bytes("metric-table")).stream()
                        .map(metrics::get)
                        .toList();
                List<Map<String, Object>> splits = new ArrayList<>();
                metrics.splits()
                        .forEach((id, lag) ->
                                splits.add(object("id", id, "lagMillis", lag.lagMillis(), "records", lag.records())));
                yield object("values", values, "splits", splits);
            }
            case "metric-table" ->
                Frames.metricTable(frame).stream()
                        .map(m -> object(
                                "name", m.name(),
                                "unit", m.unit(),
                                "roles", m.roles(),
                                "decimal", m.decimal(),
                                "meaning", m.meaning()))
                        .toList();
            case "log" -> log(FrameReader.open(frame, FrameKind.LOG));
            case "plan" -> plan(FrameReader.open(frame, FrameKind.PLAN));
            case "document-plan" -> documentPlan(FrameReader.open(frame, FrameKind.DOCUMENT_PLAN));
            case "rows" -> rows(frame);
            case "administer" -> administer(FrameReader.open(frame, FrameKind.ADMINISTER));
            case "container" -> container(ContainerInfo.decode(frame));
            case "lookup" -> lookup(FrameReader.open(frame, FrameKind.LOOKUP));
            case "keys" -> keys(FrameReader.open(frame, FrameKind.KEYS));
            case "answered" -> answered(new Answers(frame));
            case "operation-state" -> operation(Operation.decode(Operation.bodyOf(frame)));
            default -> throw new IllegalArgumentException("frame " + name + " is not known to this test");
        };
    }

    /** The numbers that enums have on the wire. */
    public static Map<String, Map<String, Integer>> numbers() {
        Map<String, Map<String, Integer>> all = new LinkedHashMap<>();
        all.put("frame", numbers(FrameKind.class, FrameKind.values(), kind -> kind.number));
        all.put("role", numbers(Core.Role.class, Core.Role.values(), role -> role.number));
        all.put("operation", numbers(OperationKind.class, OperationKind.values(), kind -> kind.number));
        all.put("change", numbers(RecordView.Change.class, RecordView.Change.values(), change -> change.number));
        all.put("result", numbers(WriteFailure.Result.class, WriteFailure.Result.values(), result -> result.number));
        Map<String, Integer> kinds =
                numbers(CosmosException.Kind.class, CosmosException.Kind.values(), kind -> kind.number);
        // That of a newer library.
        kinds.remove(CosmosException.Kind.UNKNOWN.name());
        all.put("kind", kinds);
        return all;
    }

    private static <E extends Enum<E>> Map<String, Integer> numbers(
            Class<E> type, E[] constants, ToIntFunction<E> number) {
        Map<E, Integer> byConstant = new EnumMap<>(type);
        for (E constant : constants) {
            byConstant.put(constant, number.applyAsInt(constant));
        }
        Map<String, Integer> out = new LinkedHashMap<>();
        byConstant.forEach((constant, n) -> out.put(constant.name(), n));
        return out;
    }

    private static Map<String, Object> object(Object... namesAndValues) {
        Map<String, Object> out = new LinkedHashMap<>();
        for (int i = 0; i < namesAndValues.length; i += 2) {
            out.put((String) namesAndValues[i], namesAndValues[i + 1]);
        }
        return out;
    }

    private static Map<String, Object> option(CoreOption o) {
        return object(
                "name", o.name(),
                "variable", o.variable(),
                "type", o.type(),
                "default", o.defaultValue(),
                "group", o.group(),
                "meaning", o.meaning(),
                "secret", o.secret(),
                "required", o.required(),
                "former", o.former());
    }

    private static List<String> strings(byte[] frame) {
        FrameReader in = FrameReader.open(frame, FrameKind.STRINGS);
        String[] out = new String[in.count(4)];
        Arrays.setAll(out, i -> in.str());
        return List.of(out);
    }

    static Map<String, Object> split(SplitEntry s) {
        return object(
                "id", s.id(),
                "ordinal", s.ordinal(),
                "assigned", s.assigned(),
                "description", s.description(),
                "split", HexFormat.of().formatHex(s.split()));
    }

    private static Map<String, Object> page(Page page) {
        List<Map<String, Object>> records = new ArrayList<>();
        RecordView record = page.records();
        for (int i = 0; i < page.count(); i++) {
            record.at(i);
            records.add(object(
                    "document", record.text(),
                    "id", record.id(),
                    "partitionKey", record.partitionKey(),
                    "timestampSeconds", record.timestampSeconds(),
                    "lsn", record.lsn(),
                    "changedSeconds", record.changedSeconds(),
                    "change", record.change().name(),
                    "expired", record.expired(),
                    "previous",
                            record.previous() == null ? "" : record.previous().text(),
                    "undecodable", record.undecodable()));
        }
        return object(
                "splitId", page.splitId(),
                "split", HexFormat.of().formatHex(page.split()),
                "arrivedMillis", page.arrivedMillis(),
                "newestSeconds", page.newestSeconds(),
                "caughtUp", page.caughtUp(),
                "finished", page.finished(),
                "children", page.children().stream().map(GoldenFrames::split).toList(),
                "records", records);
    }

    private static Map<String, Object> documentPlan(FrameReader in) {
        Map<String, Object> plan = object("timestamps", in.u8(), "deletion", in.u8());
        List<Map<String, Object>> columns = new ArrayList<>();
        for (int left = in.count(7); left > 0; left--) {
            Map<String, Object> column = object("name", in.str());
            int place = in.u8();
            column.put("place", place);
            if (place == 0) {
                column.put("documents", in.u8());
                List<String> path = new ArrayList<>();
                for (int names = in.count(4); names > 0; names--) {
                    path.add(in.str());
                }
                column.put("path", path);
            }
            column.put("type", type(in));
            columns.add(column);
        }
        plan.put("columns", columns);
        List<Map<String, Object>> constants = new ArrayList<>();
        for (int left = in.count(8); left > 0; left--) {
            constants.add(object("name", in.str(), "json", in.str()));
        }
        plan.put("constants", constants);
        return plan;
    }

    /** Java writes plans alone. */
    private static Map<String, Object> plan(FrameReader in) {
        Map<String, Object> plan = object(
                "missingIsError", in.u8() == 1,
                "onError", in.u8(),
                "timestamps", in.u8(),
                "unit", in.u8(),
                "changelog", in.u8());
        plan.put("columns", columns(in));
        plan.put("filter", object("columns", columns(in), "predicate", predicate(in)));
        return plan;
    }

    private static Map<String, Object> predicate(FrameReader in) {
        int code = in.u8();
        Map<String, Object> predicate = object("code", code);
        if (code <= 2) {
            List<Map<String, Object>> parts = new ArrayList<>();
            for (int left = in.count(1); left > 0; left--) {
                parts.add(predicate(in));
            }
            predicate.put("parts", parts);
            return predicate;
        }
        if (code <= 5) {
            predicate.put("inner", predicate(in));
            return predicate;
        }
        if (code == 8 || code == 10) {
            predicate.put("how", in.u8());
        }
        predicate.put("column", in.u32());
        List<Integer> fields = new ArrayList<>();
        for (int left = in.count(4); left > 0; left--) {
            fields.add(in.u32());
        }
        predicate.put("fields", fields);
        switch (code) {
            case 8 -> predicate.put("literal", literal(in));
            case 9 -> {
                List<Map<String, Object>> literals = new ArrayList<>();
                for (int left = in.count(1); left > 0; left--) {
                    literals.add(literal(in));
                }
                predicate.put("literals", literals);
            }
            case 10 -> predicate.put("text", in.str());
            default -> {}
        }
        return predicate;
    }

    private static Map<String, Object> literal(FrameReader in) {
        int code = in.u8();
        Map<String, Object> literal = object("code", code);
        switch (code) {
            case 1 -> literal.put("value", in.u8() == 1);
            case 2 -> literal.put("value", in.u64());
            case 3, 4 -> literal.put("value", Double.longBitsToDouble(in.u64()));
            case 5 -> {
                literal.put("scale", in.u8());
                literal.put("digits", in.str());
            }
            case 6 -> literal.put("value", in.str());
            default -> {
                literal.put("millis", in.u64());
                literal.put("nanos", in.u32());
            }
        }
        return literal;
    }

    private static List<Map<String, Object>> columns(FrameReader in) {
        List<Map<String, Object>> columns = new ArrayList<>();
        for (int left = in.count(6); left > 0; left--) {
            Map<String, Object> column = object("name", in.str());
            int origin = in.u8();
            column.put("origin", origin);
            if (origin == 0) {
                List<String> path = new ArrayList<>();
                for (int names = in.count(4); names > 0; names--) {
                    path.add(in.str());
                }
                column.put("path", path);
            } else if (origin == 10) {
                column.put("value", in.str());
            }
            column.put("type", type(in));
            columns.add(column);
        }
        return columns;
    }

    private static Map<String, Object> type(FrameReader in) {
        int code = in.u8();
        Map<String, Object> type = object("code", code, "nullable", in.u8() == 1);
        switch (code) {
            case 8 -> {
                type.put("precision", in.u8());
                type.put("scale", in.u8());
            }
            case 12, 13, 14 -> type.put("precision", in.u8());
            case 15 -> type.put("element", type(in));
            case 16 -> {
                type.put("key", type(in));
                type.put("value", type(in));
            }
            case 17 -> {
                List<Map<String, Object>> fields = new ArrayList<>();
                for (int left = in.count(6); left > 0; left--) {
                    fields.add(object("name", in.str(), "type", type(in)));
                }
                type.put("fields", fields);
            }
            default -> {}
        }
        return type;
    }

    /** Java writes requests alone. */
    private static Map<String, Object> administer(FrameReader in) {
        Map<String, Object> request = object("action", in.u8(), "database", in.str(), "container", in.str());
        List<String> keys = new ArrayList<>();
        for (int left = in.count(4); left > 0; left--) {
            keys.add(in.str());
        }
        request.put("keys", keys);
        request.put("defaultTtl", in.u64());
        request.put("throughput", in.u32());
        request.put("autoscale", in.u32());
        return request;
    }

    private static Map<String, Object> container(ContainerInfo container) {
        return object(
                "rid", container.rid(),
                "defaultTtl", container.defaultTtl(),
                "documents", container.documents(),
                "bytes", container.bytes(),
                "sampled", container.sampled(),
                "keys", container.keys(),
                "columns",
                        container.columns().stream()
                                .map(c -> object("name", c.name(), "path", c.path(), "type", type(c.type())))
                                .toList(),
                "primaryKey", container.primaryKey());
    }

    private static Map<String, Object> type(ContainerInfo.Type type) {
        Map<String, Object> read = object("code", type.kind().number, "nullable", type.nullable());
        switch (type.kind()) {
            case DECIMAL -> {
                read.put("precision", type.precision());
                read.put("scale", type.scale());
            }
            case TIMESTAMP, TIMESTAMP_LTZ -> read.put("precision", type.precision());
            case ARRAY -> read.put("element", type(type.element()));
            case ROW ->
                read.put(
                        "fields",
                        type.fields().stream()
                                .map(f -> object("name", f.name(), "type", type(f.type())))
                                .toList());
            default -> {}
        }
        return read;
    }

    /** By the letter, as the page of records above it. */
    private static Map<String, Object> rows(byte[] frame) {
        FrameReader in = FrameReader.open(frame, FrameKind.ROWS);
        int count = in.u32();
        int table = in.u32();
        int flags = in.u32();
        Map<String, Object> page = object(
                "arrivedMillis", in.u64(),
                "newestSeconds", in.u64(),
                "splitId", in.str(),
                "split", HexFormat.of().formatHex(in.blob()),
                "caughtUp", (flags & 1) != 0,
                "finished", (flags & 2) != 0);
        page.put("children", in.blob().length == 0 ? List.of() : "more than this test knows");
        ByteBuffer bytes = ByteBuffer.wrap(frame).order(ByteOrder.LITTLE_ENDIAN);
        List<Map<String, Object>> rows = new ArrayList<>();
        for (int at = table; at < table + 24 * count; at += 24) {
            int offset = bytes.getInt(at);
            rows.add(object(
                    "kind",
                    (int) bytes.get(at + 16),
                    "flags",
                    (int) bytes.get(at + 17),
                    "timestampMillis",
                    bytes.getLong(at + 8),
                    "bytes",
                    HexFormat.of().formatHex(frame, offset, offset + bytes.getInt(at + 4))));
        }
        page.put("rows", rows);
        return page;
    }

    /** Java writes these alone. */
    private static Map<String, Object> lookup(FrameReader in) {
        boolean alone = in.u8() == 1;
        List<Integer> columns = new ArrayList<>();
        for (int left = in.count(4); left > 0; left--) {
            columns.add(in.u32());
        }
        return object("alone", alone, "columns", columns);
    }

    /** Java writes keys alone: of these a column of each form. */
    private static List<Map<String, Object>> keys(FrameReader in) {
        List<Map<String, Object>> keys = new ArrayList<>();
        for (int left = in.count(15); left > 0; left--) {
            long number = in.u64();
            List<Object> values = new ArrayList<>();
            for (int form = 0; form < 7; form++) {
                values.add(in.u8() == 0 ? null : value(in, form));
            }
            keys.add(object("number", number, "values", values));
        }
        return keys;
    }

    private static Object value(FrameReader in, int form) {
        return switch (form) {
            case 0 -> in.u8() == 1;
            case 1 -> in.u64();
            case 2 -> in.f64();
            case 3 -> {
                int scale = in.u8();
                yield new java.math.BigDecimal(new java.math.BigInteger(in.blob()), scale).toPlainString();
            }
            case 4 -> in.str();
            case 5 -> HexFormat.of().formatHex(in.blob());
            default -> List.of(in.u64(), in.u32());
        };
    }

    private static List<Map<String, Object>> answered(Answers answers) {
        List<Map<String, Object>> all = new ArrayList<>();
        for (int i = 0; i < answers.count(); i++) {
            CosmosException failure = answers.failure(i);
            if (failure != null) {
                all.add(object(
                        "number", answers.number(i),
                        "kind", failure.kind().name(),
                        "outlivesRestart", answers.outlivesRestart(i),
                        "status", failure.status(),
                        "subStatus", failure.subStatus(),
                        "activityId", failure.activityId(),
                        "message", failure.getMessage()));
                continue;
            }
            List<String> rows = new ArrayList<>();
            for (int row = 0; row < answers.rows(i); row++) {
                int offset = answers.offset(i, row);
                rows.add(HexFormat.of().formatHex(answers.bytes(), offset, offset + answers.length(i, row)));
            }
            all.add(object("number", answers.number(i), "rows", rows));
        }
        return all;
    }

    private static Map<String, Object> operation(Operation o) {
        return object(
                "operation", o.type().name(),
                "id", o.id(),
                "partitionKey", o.partitionKey(),
                "ifMatch", o.ifMatch(),
                "document", new String(o.document(), java.nio.charset.StandardCharsets.UTF_8));
    }

    private static Map<String, Object> completions(Frames.Completions all) {
        return object(
                "room", all.room(),
                "completions",
                        all.completions().stream().map(GoldenFrames::completion).toList());
    }

    private static Map<String, Object> completion(Completion c) {
        return object(
                "submission", c.submission(),
                "requestCharge", c.requestCharge(),
                "failures",
                        c.failures().stream()
                                .map(f -> object(
                                        "index", f.index(),
                                        "result", f.result().name(),
                                        "kind", f.kind().name(),
                                        "outlivesRestart", f.outlivesRestart(),
                                        "status", f.status(),
                                        "subStatus", f.subStatus(),
                                        "attempts", f.attempts(),
                                        "activityId", f.activityId(),
                                        "message", f.message(),
                                        "target", target(f.target())))
                                .toList());
    }

    private static Map<String, Object> target(WriteFailure.Target target) {
        return object(
                "operation", target.type() == null ? "" : target.type().name(),
                "id", target.id(),
                "partitionKey", target.partitionKey());
    }

    /** Java writes events alone. */
    private static Map<String, Object> event(FrameReader in) {
        int parallelism = in.u32();
        List<Integer> registered = new ArrayList<>();
        for (int left = in.count(4); left > 0; left--) {
            registered.add(in.u32());
        }
        int event = in.u8();
        if (event != 3) {
            throw new IllegalArgumentException("event " + event + " is not known to this test");
        }
        return object(
                "parallelism",
                parallelism,
                "registered",
                registered,
                "event",
                "READER_REGISTERED",
                "subtask",
                in.u32(),
                "splits",
                blobs(in));
    }

    private static Map<String, Object> actions(EnumeratorActions actions) {
        return object(
                "unassigned", actions.unassigned(),
                "actions", actions.actions().stream().map(GoldenFrames::action).toList());
    }

    private static Map<String, Object> action(EnumeratorActions.Action action) {
        if (action instanceof EnumeratorActions.Discover discover) {
            return object("action", "DISCOVER", "periodMillis", discover.periodMillis());
        }
        if (action instanceof EnumeratorActions.Assign assign) {
            List<Map<String, Object>> assignment = new ArrayList<>();
            assign.splits()
                    .forEach((subtask, splits) -> assignment.add(object(
                            "subtask",
                            subtask,
                            "splits",
                            splits.stream().map(GoldenFrames::split).toList())));
            return object("action", "ASSIGN", "assignment", assignment);
        }
        if (action instanceof EnumeratorActions.Fail fail) {
            CosmosException failure = fail.failure();
            return object(
                    "action", "FAIL",
                    "kind", failure.kind().name(),
                    "ends", fail.ends(),
                    "status", failure.status(),
                    "subStatus", failure.subStatus(),
                    "activityId", failure.activityId(),
                    "message", failure.getMessage());
        }
        if (action instanceof EnumeratorActions.NoMoreSplits none) {
            return object("action", "NO_MORE_SPLITS", "subtasks", none.subtasks());
        }
        if (action instanceof EnumeratorActions.Backlog backlog) {
            return object("action", "BACKLOG", "backlog", backlog.there());
        }
        byte[] state = ((EnumeratorActions.State) action).bytes();
        return object("action", "STATE", "state", HexFormat.of().formatHex(state));
    }

    /** Java hands it on without looking into it. */
    private static Map<String, Object> discovery(FrameReader in) {
        if (in.u8() != 0) {
            throw new IllegalArgumentException("this test knows of no failure of a discovery");
        }
        List<String> splits = blobs(in);
        List<List<String>> partitions = new ArrayList<>();
        for (int left = in.count(8); left > 0; left--) {
            partitions.add(List.of(in.str(), in.str()));
        }
        return object("splits", splits, "partitions", partitions);
    }

    private static List<String> blobs(FrameReader in) {
        List<String> out = new ArrayList<>();
        for (int left = in.count(4); left > 0; left--) {
            out.add(HexFormat.of().formatHex(in.blob()));
        }
        return out;
    }

    private static Map<String, Object> log(FrameReader in) {
        long dropped = in.u64();
        List<Map<String, Object>> events = new ArrayList<>();
        for (int left = in.count(17); left > 0; left--) {
            events.add(object("level", in.u8(), "epochMillis", in.u64(), "target", in.str(), "message", in.str()));
        }
        return object("dropped", dropped, "events", events);
    }
}
