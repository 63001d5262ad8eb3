#!/bin/sh
# All tests, again and again: finds those that fail by chance. Environment: N, the number of runs (20); BUSY, the number of
# processes (0) that keep the processors busy during the second half of them.
#
# Finished runs are recorded in target/test-often, in a folder for each build, and are not run again: what was interrupted is
# continued, and never with other programs. To begin anew, remove that folder.
set -u
cd "$(dirname "$0")/../../.." || exit

runs=${N:-20}
busy=${BUSY:-0}
for number in "$runs" "$busy"; do
    case $number in *[!0-9]*) echo "N and BUSY are numbers, not $number" >&2; exit 2 ;; esac
done
[ "$runs" -gt 0 ] || { echo "N is at least 1" >&2; exit 2; }

# What is printed is read below.
CARGO_TERM_COLOR=never
CARGO_TERM_QUIET=false
export CARGO_TERM_COLOR CARGO_TERM_QUIET

often=${CARGO_TARGET_DIR:-target}/test-often
mkdir -p "$often" || exit

sh tests/libraries/brokers/test.sh --no-run >"$often/build.log" 2>&1 || { cat "$often/build.log" >&2; exit 1; }
# `  Executable tests/core/main.rs (target/debug/deps/core-0123456789abcdef)`
executables=$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$often/build.log")
[ -n "$executables" ] || { echo "no test programs in $often/build.log" >&2; exit 1; }

# shellcheck disable=SC2086 # lists of words
build() { cksum $executables | cksum | tr ' ' -; }

built=$(build)
here=$often/$built
mkdir -p "$here" || exit

spinning=
spin() {
    for _ in $(seq "$busy"); do
        # Ends also when we are killed and can clear nothing up.
        (while kill -0 $$ 2>/dev/null; do for _ in 1 2 3 4 5 6 7 8; do :; done; done) &
        spinning="$spinning $!"
    done
}
rest() {
    # shellcheck disable=SC2086
    [ -z "$spinning" ] || { kill $spinning; wait $spinning; } 2>/dev/null
    spinning=
}
trap rest EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Of each program that was built the log has to say that it ran and that all went well; prints how many tests that were.
# What is a doctest has no program, and is in the exit code alone.
passed() {
    echo "$executables" | awk '
        NR == FNR { missing[$0]; next }
        /^ +Running / { program = $NF; gsub(/[()]/, "", program) }
        /^ +Doc-tests / { program = "" }
        /^test result: ok\. / && program in missing { delete missing[program]; tests += $4 }
        END {
            for (program in missing) { print "not seen to pass: " program; bad = 1 }
            if (!bad) { print tests + 0 }
            exit bad || !tests
        }' - "$1"
}

failures() {
    grep -E '^test .* \.\.\. FAILED$|^test result: FAILED|^error' "$1" || tail -n 5 "$1"
}

number=0
failed=0
while [ "$number" -lt "$runs" ]; do
    number=$((number + 1))
    if [ "$number" -gt $((runs / 2)) ]; then beside=$busy; else beside=0; fi
    run=$here/run-$number-beside-$beside
    if [ ! -f "$run.passed" ] && [ ! -f "$run.failed" ]; then
        [ "$beside" -eq 0 ] || spin
        sh tests/libraries/brokers/test.sh >"$run.log" 2>&1
        status=$?
        rest
        [ "$(build)" = "$built" ] || { echo "run $number does not count: there are other test programs now" >&2; exit 1; }
        if [ "$status" -ne 0 ]; then
            mv "$run.log" "$run.failed"
        elif tests=$(passed "$run.log"); then
            echo "all: $tests tests passed" >>"$run.log"
            mv "$run.log" "$run.passed"
        else
            echo "error: $tests" >>"$run.log"
            mv "$run.log" "$run.failed"
        fi
    fi
    if [ -f "$run.failed" ]; then
        failed=$((failed + 1))
        echo "run $number, beside $beside busy processes, FAILED: $run.failed"
        failures "$run.failed" | sed "s/^/run $number: /"
    else
        echo "run $number, beside $beside busy processes, $(tail -n 1 "$run.passed")"
    fi
done
echo "$failed of $runs runs failed"
[ "$failed" -eq 0 ]
