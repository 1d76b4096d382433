package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class DatasetNameTest {
    private static DatasetName of(String endpoint) {
        return DatasetName.of(Map.of(
                "endpoint", endpoint,
                "database", "orders",
                "container", "events",
                "auth.secret-key", "c2VjcmV0"));
    }

    @Test
    void aContainerIsNamedByItsAccountDatabaseAndName() {
        assertThat(of("https://Account.documents.azure.com:443/"))
                .isEqualTo(new DatasetName("https://account.documents.azure.com:443", "orders/events"));
        assertThat(of("http://localhost:8081").namespace()).isEqualTo("http://localhost:8081");
    }

    @Test
    void anEndpointHasOneNameWhetherItsPortIsWrittenOrNot() {
        for (String endpoint : List.of("https://a.example", "https://a.example:443", "https://A.example/")) {
            assertThat(of(endpoint).namespace()).as(endpoint).isEqualTo("https://a.example:443");
        }
        assertThat(of("http://localhost").namespace()).isEqualTo("http://localhost:80");
    }

    @Test
    void nothingElseOfAnEndpointShows() {
        assertThat(of("https://user:c2VjcmV0@host:1/path?key=c2VjcmV0#c2VjcmV0").namespace())
                .isEqualTo("https://host:1");
        assertThat(of("AccountEndpoint=https://host/;AccountKey=c2VjcmV0").namespace())
                .isEmpty();
        assertThat(of("not a URL: c2VjcmV0").namespace()).isEmpty();
        assertThat(DatasetName.of(Map.of())).isEqualTo(new DatasetName("", "/"));
    }
}
