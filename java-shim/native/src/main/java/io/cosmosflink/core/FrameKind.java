package io.cosmosflink.core;

/** The kinds of frame of {@code docs/boundary.md}. */
enum FrameKind {
    OPTIONS(1),
    MAP(2),
    STRINGS(3),
    SPLIT_LIST(4),
    PAGE(5),
    OPERATIONS(6),
    COMPLETIONS(7),
    METRICS(8),
    LOG(9),
    OPERATION_STATE(10),
    EVENT(11),
    ACTIONS(12),
    DISCOVERY(13),
    METRIC_TABLE(14),
    PLAN(15),
    ROWS(16),
    DOCUMENT_PLAN(17),
    ADMINISTER(18),
    CONTAINER(19),
    LOOKUP(20),
    KEYS(21),
    ANSWERED(22);

    final int number;

    FrameKind(int number) {
        this.number = number;
    }
}
