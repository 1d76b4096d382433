package io.cosmosflink.testcontainers;

import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.api.model.PortBinding;
import com.github.dockerjava.api.model.Ports;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.testcontainers.DockerClientFactory;
import org.testcontainers.containers.ContainerLaunchException;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.wait.strategy.HttpWaitStrategy;
import org.testcontainers.images.PullPolicy;
import org.testcontainers.utility.DockerImageName;

/**
 * A local Cosmos DB account (NoSQL API) in a container: in memory, empty at the start but for the databases and containers that
 * are asked for, and gone when it stops.
 *
 * <pre>{@code
 * try (CosmosLocalContainer cosmos = new CosmosLocalContainer()
 *         .withDatabase("shop")
 *         .withCosmosContainer("orders:/customerId:4")) {
 *     cosmos.start();
 *     CosmosDBSource<String> source = CosmosDBSource.<String>builder()
 *             .options(CosmosDBOptions.of(cosmos.options()))
 *             .database("shop")
 *             .container("orders")
 *             ...
 * }
 * }</pre>
 *
 * <p>It is ready when {@code GET /_local/health} answers. Where this machine's own engine runs it, its port is published on the
 * loopback address alone. The account names whatever address a client used as its endpoint, so that clients inside and
 * outside the engine's network work with the same one.
 *
 * <p><b>Plain http.</b> The connector accepts it for the loopback address, and for the one host that the variable {@code
 * AZURE_COSMOS_EMULATOR_HOST} of its process names. An engine on another machine (see {@link #getHost()}) and jobs in other
 * containers need that variable, or {@link #withTls(String...)}.
 *
 * <p>Instances are set up by one thread. Once started, {@link #admin()} may be used by several.
 */
public class CosmosLocalContainer extends GenericContainer<CosmosLocalContainer> {
    /**
     * The image that the repository's {@code infra/images/Dockerfile} builds as {@code cosmos-local}. It is in no registry: build
     * it first, or name a copy in a registry of your own.
     */
    public static final DockerImageName DEFAULT_IMAGE = DockerImageName.parse("cosmosflink-local-account");

    /** The port within the container. */
    public static final int PORT = 8081;

    /** As many as the service's keys have. */
    private static final int KEY_BYTES = 64;
    /** A start takes well below a second; what takes longer is a machine under load. */
    private static final Duration START = Duration.ofSeconds(60);

    private static final String CA_FILE = "/tmp/cosmos-local-ca.pem";
    private static final Set<String> LOOPBACK = Set.of("localhost", "127.0.0.1");

    private final List<String> databases = new ArrayList<>();
    private final List<String> containers = new ArrayList<>();
    private final List<String> tlsNames = new ArrayList<>();
    private String key = randomKey();
    private boolean tls;
    private boolean throttling;
    private long seed;
    private String caPem;
    private Path caFile;
    private CosmosLocalAdmin admin;

    /** With the image that the variable {@code COSMOS_LOCAL_IMAGE} of this process names, else {@link #DEFAULT_IMAGE}. */
    public CosmosLocalContainer() {
        this(Optional.ofNullable(System.getenv("COSMOS_LOCAL_IMAGE"))
                .filter(name -> !name.isBlank())
                .map(DockerImageName::parse)
                .orElse(DEFAULT_IMAGE));
    }

    /**
     * With an image of another name, such as a copy in a registry.
     *
     * @param image the repository's image. A name without a registry is never pulled.
     */
    public CosmosLocalContainer(DockerImageName image) {
        super(image);
        addExposedPort(PORT);
        waitingFor(healthy());
        // The default would ask a public registry, for two minutes where none can be reached, for an image that is in
        // none.
        withImagePullPolicy(name ->
                !name.getRegistry().isEmpty() && PullPolicy.defaultPolicy().shouldPull(name));
        // Published by all addresses, the account and its admin requests would be open to the network.
        withCreateContainerCmdModifier(command -> {
            if (command.getHostConfig() != null
                    && LOOPBACK.contains(DockerClientFactory.instance().dockerHostIpAddress())) {
                Ports local = new Ports();
                command.getHostConfig().getPortBindings().getBindings().forEach((port, bindings) -> {
                    for (Ports.Binding given : bindings) {
                        String address = given.getHostIp() == null ? "127.0.0.1" : given.getHostIp();
                        local.add(new PortBinding(new Ports.Binding(address, given.getHostPortSpec()), port));
                    }
                });
                command.getHostConfig().withPortBindings(local);
            }
        });
    }

    /**
     * Creates a database at the start.
     *
     * @param name its name. Containers without a database of their own go into the first that was named.
     * @return this
     */
    public CosmosLocalContainer withDatabase(String name) {
        databases.add(notBlank("database", name));
        return this;
    }

    /**
     * Creates a container of the account at the start.
     *
     * @param spec {@code [DATABASE/]NAME:/path[,/path..][:PARTITIONS[:RU]]}, such as {@code orders:/customerId:4} or {@code
     *     shop/orders:/tenant,/customerId:2:4000}: partition key paths, physical partitions (4 by default) and request units per
     *     second, which count with {@link #withThrottling()} only
     * @return this
     */
    public CosmosLocalContainer withCosmosContainer(String spec) {
        containers.add(notBlank("container", spec));
        return this;
    }

    /**
     * Sets the account key. By default each instance has a random one.
     *
     * @param base64 the key, in base64
     * @return this
     * @throws IllegalArgumentException when it is empty or not base64; the message does not show it
     */
    public CosmosLocalContainer withKey(String base64) {
        byte[] bytes;
        try {
            bytes = Base64.getDecoder().decode(base64);
        } catch (IllegalArgumentException e) {
            // The cause shows a character of the key.
            throw new IllegalArgumentException("the account key is not base64");
        }
        if (bytes.length == 0) {
            throw new IllegalArgumentException("the account key is empty");
        }
        this.key = base64;
        return this;
    }

    /**
     * Serves https, with HTTP/2 and HTTP/1.1, instead of http. The certificate is made at the start; {@link #caPem()} has its
     * authority. It is for {@code localhost}, {@code 127.0.0.1}, {@code ::1}, the engine's host, and the names given.
     *
     * <p>{@link #options()} makes the connector trust it.
     *
     * @param names other host names, such as the container's network aliases
     * @return this
     */
    public CosmosLocalContainer withTls(String... names) {
        tls = true;
        // Its authority is not known before it runs, and the question is only whether it answers.
        waitingFor(healthy().usingTls().allowInsecure());
        for (String name : names) {
            tlsNames.add(notBlank("host name", name));
        }
        return this;
    }

    /**
     * Answers 429 when a container's request units are used up. Off by default.
     *
     * @return this
     */
    public CosmosLocalContainer withThrottling() {
        throttling = true;
        return this;
    }

    /**
     * Sets the seed of the chance in faults, see {@link Fault#share(double)}.
     *
     * @param seed 0 or more; 0 by default
     * @return this
     */
    public CosmosLocalContainer withSeed(long seed) {
        if (seed < 0) {
            throw new IllegalArgumentException("the seed is " + seed + "; it must be 0 or more");
        }
        this.seed = seed;
        return this;
    }

    /**
     * The account's endpoint for clients on this machine.
     *
     * @return such as {@code http://localhost:49153/}
     * @throws IllegalStateException before the start
     */
    public String endpoint() {
        return scheme() + "://" + getHost() + ":" + getMappedPort(PORT) + "/";
    }

    /**
     * The account's endpoint for other containers of the same network.
     *
     * @param alias one of {@link #withNetworkAliases(String...)}; with TLS it must be a name of the certificate
     * @return such as {@code http://cosmos:8081/}
     */
    public String endpointInNetwork(String alias) {
        return scheme() + "://" + notBlank("alias", alias) + ":" + PORT + "/";
    }

    /**
     * The account key.
     *
     * @return the key in base64, the one given or a random one
     */
    public String key() {
        return key;
    }

    /**
     * What the connector needs to reach the account from this machine, by the names of its options: endpoint, key, and with TLS
     * the file of {@link #caFile()}.
     *
     * @return a map of its own, to which database and container can be added
     * @throws IllegalStateException before the start
     */
    public Map<String, String> options() {
        Map<String, String> options = new HashMap<>(Map.of("endpoint", endpoint(), "auth.secret-key", key));
        if (tls) {
            options.put("tls.ca-file", caFile().toString());
        }
        return options;
    }

    /**
     * The certificate of the authority that signed the server's.
     *
     * @return PEM text
     * @throws IllegalStateException before the start, or without {@link #withTls(String...)}
     */
    public String caPem() {
        checkCertificate();
        return caPem;
    }

    /**
     * {@link #caPem()} in a file of this machine, until the container stops.
     *
     * @return the file
     * @throws IllegalStateException before the start, or without {@link #withTls(String...)}
     */
    public Path caFile() {
        checkCertificate();
        return caFile;
    }

    private void checkCertificate() {
        if (!tls) {
            throw new IllegalStateException("there is no certificate: the container serves http; ask for withTls()");
        }
        if (caPem == null) {
            throw new IllegalStateException("there is no certificate yet: start the container first");
        }
    }

    /**
     * Faults, splits and counts of the running account.
     *
     * @return the helper, the same one until the container stops
     * @throws IllegalStateException before the start
     */
    public CosmosLocalAdmin admin() {
        if (admin == null) {
            throw new IllegalStateException("the container does not run; start it first");
        }
        return admin;
    }

    @Override
    protected void configure() {
        addEnv("COSMOS_LOCAL_LISTEN", "0.0.0.0:" + PORT);
        // Not as an argument: those can be seen by the machine's other users.
        addEnv("COSMOS_KEY", key);
        setCommandParts(arguments(tls ? getHost() : "").toArray(String[]::new));
    }

    private static HttpWaitStrategy healthy() {
        HttpWaitStrategy healthy = new HttpWaitStrategy()
                .forPath("/_local/health")
                .forPort(PORT)
                .forStatusCode(200)
                .forResponsePredicate(body -> body.contains("\"ok\""));
        healthy.withStartupTimeout(START);
        return healthy;
    }

    /** What the server is started with, for an engine on {@code host}. */
    List<String> arguments(String host) {
        // Requests from this machine come to the container from the engine's network.
        List<String> all = new ArrayList<>(List.of("--admin-open", "--seed", Long.toString(seed)));
        databases.forEach(name -> all.addAll(List.of("--database", name)));
        containers.forEach(spec -> all.addAll(List.of("--container", spec)));
        if (throttling) {
            all.addAll(List.of("--throttling", "on"));
        }
        if (tls) {
            all.addAll(List.of("--tls", "--tls-ca", CA_FILE, "--tls-name", host));
            tlsNames.forEach(name -> all.addAll(List.of("--tls-name", name)));
        }
        return all;
    }

    @Override
    protected void doStart() {
        try {
            super.doStart();
        } catch (ContainerLaunchException e) {
            for (Throwable cause = e; cause != null; cause = cause.getCause()) {
                if (cause instanceof NotFoundException) {
                    throw new ContainerLaunchException(
                            "the engine has no image " + getDockerImageName()
                                    + ". Build it in the repository of cosmosflink: "
                                    + "docker build -f infra/images/Dockerfile --target cosmos-local -t "
                                    + getDockerImageName() + " . ; or name a copy in a registry",
                            e);
                }
            }
            throw e;
        }
        if (tls) {
            takeCertificate();
        }
        admin = new CosmosLocalAdmin(endpoint(), caPem);
    }

    private void takeCertificate() {
        String pem =
                copyFileFromContainer(CA_FILE, stream -> new String(stream.readAllBytes(), StandardCharsets.US_ASCII));
        try {
            caFile = Files.createTempFile("cosmos-local-ca", ".pem");
            Files.writeString(caFile, pem);
        } catch (IOException e) {
            stop();
            throw new ContainerLaunchException("the certificate cannot be written to a file: " + e.getMessage(), e);
        }
        caPem = pem;
    }

    @Override
    public void stop() {
        admin = null;
        caPem = null;
        super.stop();
        if (caFile != null) {
            try {
                Files.deleteIfExists(caFile);
            } catch (IOException e) {
                logger().warn("{} stays behind: {}", caFile, e.getMessage());
            }
            caFile = null;
        }
    }

    private String scheme() {
        return tls ? "https" : "http";
    }

    private static String notBlank(String what, String value) {
        if (value == null || value.isBlank()) {
            throw new IllegalArgumentException("the " + what + " is empty");
        }
        return value;
    }

    private static String randomKey() {
        byte[] bytes = new byte[KEY_BYTES];
        new SecureRandom().nextBytes(bytes);
        return Base64.getEncoder().encodeToString(bytes);
    }
}
