package io.cosmosflink.core;

import java.util.Locale;

/** The one exception of the core: what failed, of which kind, and what the service answered. */
@PublicEvolving
public final class CosmosException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** What sort of failure it is. Decide by this, never by the message. */
    public enum Kind {
        /** A kind that this jar does not know: the library is newer. */
        UNKNOWN(0),
        CONFIG(1),
        AUTH(2),
        NOT_FOUND(3),
        THROTTLED(4),
        TRANSIENT(5),
        BAD_REQUEST(6),
        CONFLICT(7),
        PRECONDITION(8),
        TOO_LARGE(9),
        CLOSED(10),
        STATE(11),
        INTERNAL(12);

        private static final Numbers<Kind> NUMBERS = new Numbers<>(values(), kind -> kind.number);

        final int number;

        Kind(int number) {
            this.number = number;
        }

        /** What to do about a write that failed like this. */
        public String advice() {
            return switch (this) {
                case AUTH -> "check the account key or the role of the identity";
                case NOT_FOUND -> "create the container, or for a replace or a delete the document";
                case THROTTLED ->
                    "give the container more request units; retry.throttled-deadline says how long to wait, 0 for as long as"
                            + " it takes";
                case TRANSIENT -> "the service could not be reached in time; raise retry.deadline if that is expected";
                case TOO_LARGE -> "the service takes documents of up to 2 MiB";
                case CONFLICT -> "the document exists already; use upsert, or sink.failure-mode skip";
                case PRECONDITION -> "the document was changed in between; read its new ETag";
                case BAD_REQUEST -> "check id, partition key and document against the container";
                default -> name().toLowerCase(Locale.ROOT) + "; see the log";
            };
        }

        /** The kind of a number on the wire, or {@link #UNKNOWN}. */
        static Kind of(int number) {
            Kind kind = NUMBERS.get(number);
            return kind == null ? UNKNOWN : kind;
        }
    }

    private final Kind kind;
    private final int status;
    private final int subStatus;
    private final String activityId;

    /** Called by the core. {@code status} and {@code subStatus} are the service's, 0 for none; {@code activityId} may be empty. */
    public CosmosException(String message, int kind, int status, int subStatus, String activityId) {
        super(message);
        this.kind = Kind.of(kind);
        this.status = status;
        this.subStatus = subStatus;
        this.activityId = activityId == null ? "" : activityId;
    }

    CosmosException(String message, Kind kind) {
        this(message, kind, 0, 0, "");
    }

    /** A failure that a shim words itself, such as a {@link WriteFailure}. */
    public CosmosException(String message, Kind kind, int status, int subStatus, String activityId) {
        this(message, kind.number, status, subStatus, activityId);
    }

    public Kind kind() {
        return kind;
    }

    /** HTTP status of the service, 0 if it never answered. */
    public int status() {
        return status;
    }

    /** The service's sub-status, 0 for none. */
    public int subStatus() {
        return subStatus;
    }

    /** The service's name for the request, for a support case; empty if there is none. */
    public String activityId() {
        return activityId;
    }
}
