package io.cosmosflink.jobs;

/** Entry point of the secondary job, {@link OrderDelivery}. The name is the one that clusters and scripts submit. */
public final class FlinkCosmosSourceJob {
    private FlinkCosmosSourceJob() {}

    /** {@code --name value} pairs over the environment; see {@code docs/configuration.md}. */
    public static void main(String[] arguments) throws Exception {
        JobSettings.run(OrderDelivery.NAME, arguments, OrderDelivery::define);
    }
}
