//! The demo in containers.
pub fn demo(_options: &crate::demo::Options) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}

pub fn validate_compose() -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
