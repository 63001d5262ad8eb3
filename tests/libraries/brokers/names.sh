#!/bin/sh
# The names of all tests that passed, from what `make test` has printed, a line each: the test program or the crate of the
# doctests, and the test. Lines of code before a doctest do not change its name.
set -eu
awk '
    /^ +Running / { program = $NF; gsub(/^.*\/|-[0-9a-f]+\)$/, "", program) }
    /^ +Doc-tests / { program = $NF " docs" }
    /^test .* \.\.\. ok$/ {
        sub(/^test /, ""); sub(/ \.\.\. ok$/, ""); sub(/ \(line [0-9]+\)/, ""); sub(/ - compile( fail)?$/, "")
        print program ": " $0
    }
' "$@" | sort | uniq -c | awk '{ count = $1; sub(/^ *[0-9]+ /, ""); print (count > 1 ? $0 " x " count : $0) }'
