package io.cosmosflink.core;

/** What is asked for in an ADMINISTER frame, for tests without the core. */
public final class CatalogRequests {
    private CatalogRequests() {}

    /** The number of the action. */
    public static int action(CatalogRequest request) {
        return FrameReader.open(request.frame(), FrameKind.ADMINISTER).u8();
    }

    /** How many documents a description looks at; 0 where no columns are asked for. */
    public static int sample(CatalogRequest request) {
        FrameReader in = FrameReader.open(request.frame(), FrameKind.ADMINISTER);
        in.u8();
        in.str();
        in.str();
        return in.u32();
    }
}
