package io.cosmosflink.jobs;

/** Entry point of the primary job, {@link OrderProcessing}. The name is the one that clusters and scripts submit. */
public final class FlinkCosmosSinkJob {
    private FlinkCosmosSinkJob() {}

    /** {@code --name value} pairs over the environment; see {@code docs/configuration.md}. */
    public static void main(String[] arguments) throws Exception {
        JobSettings.run(OrderProcessing.NAME, arguments, OrderProcessing::define);
    }
}
