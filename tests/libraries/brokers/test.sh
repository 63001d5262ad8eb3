#!/bin/sh
# All tests and doctests, with each broker started once. Packages whose broker is missing are left out, listed with what mends
# it, and the exit code is 1: what has not run has not passed. With --no-run they are built only.
set -u
cd "$(dirname "$0")/../../.." || exit

cargo=${CARGO:-cargo}
brokers() { $cargo run -q -p brokers -- "$@"; }

missing=$(brokers check --missing) || exit
left_out=
shared=
for broker in $missing; do
    case $broker in
        redis) left_out="$left_out example-redis-streams" ;;
        *) left_out="$left_out $broker-tests"; shared=missing ;;
    esac
    [ "$broker" != rabbitmq ] || left_out="$left_out example-outbox"
done
# These need all of them: but for Redis, which the example alone needs.
[ -z "$shared" ] || left_out="$left_out pipeline-tests pattern-tests switch-tests"
[ -z "$missing" ] || left_out="$left_out brokers"

excludes=
for package in $left_out; do excludes="$excludes --exclude $package"; done

# What is measured has to be the same through bound instruments.
bound="-p otel-messaging --features bound-instruments --test core"

# shellcheck disable=SC2086 # lists of words
if [ "${1-}" = --no-run ]; then
    $cargo test --workspace --no-run $excludes && $cargo test $bound --no-run
    exit
fi

# Most tests wait for a broker most of the time: more of them are under way than there are processors.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-4}
export RUST_TEST_THREADS

# shellcheck disable=SC2086
brokers run -- $cargo test --workspace --no-fail-fast $excludes
status=$?
# shellcheck disable=SC2086
$cargo test $bound metrics || status=1

if [ -n "$missing" ]; then
    {
        echo
        echo "NOT RUN, because a broker is missing:$left_out"
        brokers check
    } >&2
    status=1
fi
exit $status
