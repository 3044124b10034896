#!/bin/sh
# RUSTC_WORKSPACE_WRAPPER of `cargo xtask fuzz`: the compiler, with libFuzzer's counters in rackctl itself. Everything
# else stays as it was built, so that a build takes two minutes; unoptimised, for optimising takes longer than it
# gives back in a minute. The flags are those of rustc's own book (sancov), which
# need no nightly compiler.
case " $* " in
*" --crate-name rackctl "* | *" --crate-name fuzz_redfish "* | *" --crate-name fuzz_ipmi "*) ;;
*) exec "$@" ;;
esac
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
