#!/bin/sh
# rustdoc with its JSON output, which a stable toolchain has too but keeps behind this variable. Set for rustdoc alone: some
# build scripts read it, and would be run again, with all that depends on them, each time it comes and goes.
RUSTC_BOOTSTRAP=1 exec "${API_RUSTDOC:-rustdoc}" "$@"
