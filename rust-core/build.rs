//! Links the shared library so that it is never unmapped: the driver keeps one monitor thread for the life of the process,
//! and a JVM unloads the library when the last class loader that loaded it goes.
fn main() {
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
