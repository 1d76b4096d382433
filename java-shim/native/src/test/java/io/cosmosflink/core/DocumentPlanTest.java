package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.junit.jupiter.api.Test;

class DocumentPlanTest {
    @Test
    void aPlanIsTheGoldenOne() {
        byte[] plan = new DocumentPlan(RowPlan.TimestampFormat.ISO_8601, DocumentPlan.Deletion.UPDATE)
                .path("id", List.of("id"), true, true, RowPlan.Type.string(false))
                .path("city", List.of("address", "city"), true, false, RowPlan.Type.string(true))
                .path("total", List.of("total"), true, false, RowPlan.Type.decimal(20, 2, true))
                .etag("etag")
                .timeToLive("ttl")
                .constant("deleted", "true")
                .frame();
        assertThat(plan).isEqualTo(GoldenFrames.bytes("document-plan"));
    }
}
