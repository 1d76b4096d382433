package io.cosmosflink.testcontainers;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;

/**
 * A rule by which a local account makes requests fail, wait, or lose their answer. It strikes when all of its conditions hold.
 *
 * <pre>{@code
 * // Every fifth bulk request, by chance, is throttled.
 * admin.addFault(Fault.on("bulk").share(0.2).status(429).retryAfter(Duration.ofMillis(20)));
 * // The answer to one bulk request is lost, after it was carried out.
 * admin.addFault(Fault.on("bulk").count(1).dropResponse());
 * }</pre>
 *
 * <p>The account checks a rule when it is added, and says what makes no sense in it. The README of {@code tests/cosmos-local}
 * lists all conditions and effects; those without a method of their own go in by {@link #with(String, Object)}.
 */
public final class Fault {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final ObjectNode json = JSON.createObjectNode();

    private Fault() {}

    /**
     * A fault of some kinds of requests.
     *
     * @param operations kinds such as {@code bulk}, {@code upsert}, {@code changeFeed} or {@code connection}, or the groups {@code
     *     read}, {@code write}, {@code feed}, {@code metadata}; none: all requests
     * @return a rule that has no effect yet
     */
    public static Fault on(String... operations) {
        return operations.length == 0 ? new Fault() : new Fault().with("operations", operations);
    }

    /**
     * Only requests for one container of the account.
     *
     * @param name its name
     * @return this
     */
    public Fault container(String name) {
        return with("container", name);
    }

    /**
     * Only requests to one physical partition.
     *
     * @param id id of its partition key range
     * @return this
     */
    public Fault partition(String id) {
        return with("partition", id);
    }

    /**
     * Strikes by chance.
     *
     * @param probability 0 to 1, for each request
     * @return this
     */
    public Fault share(double probability) {
        return with("share", probability);
    }

    /**
     * Lets requests pass before the first is struck.
     *
     * @param requests how many
     * @return this
     */
    public Fault skip(long requests) {
        return with("skip", requests);
    }

    /**
     * Is spent after a number of strikes; without it, the fault stays until it is removed.
     *
     * @param strikes how many
     * @return this
     */
    public Fault count(long strikes) {
        return with("count", strikes);
    }

    /**
     * Strikes single operations inside bulk requests instead of the request.
     *
     * @return this
     */
    public Fault perOperation() {
        return with("perOperation", true);
    }

    /**
     * Answers with an error, and does not carry the request out.
     *
     * @param status 400 to 599
     * @return this
     */
    public Fault status(int status) {
        return with("status", status);
    }

    /**
     * Answers with an error of a sub-status, such as 410 with 1002.
     *
     * @param status 400 to 599
     * @param subStatus what {@code x-ms-substatus} says
     * @return this
     */
    public Fault status(int status, int subStatus) {
        return status(status).with("subStatus", subStatus);
    }

    /**
     * Tells the client, with the error, how long to wait.
     *
     * @param time to the millisecond
     * @return this
     */
    public Fault retryAfter(Duration time) {
        return with("retryAfterMillis", time.toMillis());
    }

    /**
     * Waits first.
     *
     * @param time to the millisecond, 10 minutes at most
     * @return this
     */
    public Fault delay(Duration time) {
        return with("delayMillis", time.toMillis());
    }

    /**
     * Carries the request out, then ends the connection (over HTTP/2: the stream) instead of answering.
     *
     * @return this
     */
    public Fault dropResponse() {
        return with("dropResponse", true);
    }

    /**
     * Ends the connection without carrying the request out.
     *
     * @return this
     */
    public Fault refuse() {
        return with("refuse", true);
    }

    /**
     * Never answers.
     *
     * @return this
     */
    public Fault hang() {
        return with("hang", true);
    }

    /**
     * Any condition or effect, by the name that the account has for it.
     *
     * @param name such as {@code cutAfterBytes}
     * @param value text, a number, a boolean, or a list of them
     * @return this
     */
    public Fault with(String name, Object value) {
        json.set(name, JSON.valueToTree(value));
        return this;
    }

    /** What the account takes. */
    ObjectNode json() {
        return json;
    }
}
