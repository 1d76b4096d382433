#!/bin/sh
# A wrapper of the compiler for `cargo xtask fuzz`: what is fuzzed is compiled so that libFuzzer sees which way an input takes. Cargo calls it
# for the workspace's own crates alone, so that the others are those of every build. The flags are those of cargo-fuzz, of which none needs
# a nightly compiler.
case " $* " in
*" --crate-name cosmosflink_core "*)
    exec "$@" -Cpasses=sancov-module -Ccodegen-units=1 -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
*)
    exec "$@"
    ;;
esac
