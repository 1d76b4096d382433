package io.cosmosflink.testcontainers;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;

import java.time.Duration;
import java.util.Base64;
import org.junit.jupiter.api.Test;

/** What needs no engine: arguments, keys, the form of faults. */
class CosmosLocalContainerTest {
    @Test
    void theServerIsStartedWithWhatWasAskedFor() {
        try (CosmosLocalContainer container = new CosmosLocalContainer()) {
            assertThat(container.arguments("")).containsExactly("--admin-open", "--seed", "0");
            container
                    .withDatabase("shop")
                    .withDatabase("other")
                    .withCosmosContainer("orders:/customerId:4")
                    .withThrottling()
                    .withSeed(7)
                    .withTls("cosmos");
            assertThat(String.join(" ", container.arguments("host")))
                    .isEqualTo(
                            "--admin-open --seed 7 --database shop --database other --container orders:/customerId:4"
                                    + " --throttling on --tls --tls-ca /tmp/cosmos-local-ca.pem --tls-name host --tls-name cosmos");
            assertThat(container.endpointInNetwork("cosmos")).isEqualTo("https://cosmos:8081/");
        }
    }

    @Test
    void eachContainerHasAKeyOfItsOwn() {
        try (CosmosLocalContainer one = new CosmosLocalContainer();
                CosmosLocalContainer two = new CosmosLocalContainer()) {
            assertThat(Base64.getDecoder().decode(one.key())).hasSize(64);
            assertThat(one.key()).isNotEqualTo(two.key());
            String given = Base64.getEncoder().encodeToString(new byte[] {1, 2, 3});
            assertThat(one.withKey(given).key()).isEqualTo(given);
        }
    }

    @Test
    void whatMakesNoSenseIsRefusedAndNoKeyIsShown() {
        try (CosmosLocalContainer container = new CosmosLocalContainer()) {
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> container.withKey("not base64!"))
                    .withMessage("the account key is not base64")
                    .withNoCause();
            assertThatIllegalArgumentException().isThrownBy(() -> container.withKey(""));
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> container.withDatabase(" "))
                    .withMessageContaining("database");
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> container.withSeed(-1))
                    .withMessageContaining("-1");
            assertThatIllegalStateException().isThrownBy(container::admin).withMessageContaining("start");
            assertThatIllegalStateException().isThrownBy(container::caPem).withMessageContaining("withTls");
            container.withTls();
            assertThatIllegalStateException().isThrownBy(container::caPem).withMessageContaining("start");
        }
    }

    @Test
    void faultsHaveTheNamesOfTheAccount() {
        assertThat(Fault.on().refuse().json()).hasToString("{\"refuse\":true}");
        Fault every = Fault.on("bulk", "upsert")
                .container("orders")
                .partition("3")
                .share(0.5)
                .skip(1)
                .count(2)
                .status(410, 1002)
                .retryAfter(Duration.ofMillis(30))
                .delay(Duration.ofSeconds(1))
                .with("message", "\"quoted\"");
        assertThat(every.json())
                .hasToString("{\"operations\":[\"bulk\",\"upsert\"],\"container\":\"orders\",\"partition\":\"3\","
                        + "\"share\":0.5,\"skip\":1,\"count\":2,\"status\":410,\"subStatus\":1002,"
                        + "\"retryAfterMillis\":30,\"delayMillis\":1000,\"message\":\"\\\"quoted\\\"\"}");
        assertThat(Fault.on("bulk").status(429).perOperation().json().get("perOperation"))
                .hasToString("true");
        assertThat(Fault.on("bulk").dropResponse().json().get("dropResponse")).hasToString("true");
        assertThat(Fault.on("bulk").hang().json().get("hang")).hasToString("true");
    }
}
