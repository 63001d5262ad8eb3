#!/bin/sh
# Says what a test program says: of three tests one passes, one only at its third try, and one ends the process.
case $1 in
--list)
    printf 'steady: test\nflaky: test\nlost: test\n' ;;
--exact)
    echo tried >>"$2"
    if [ "$2" = flaky ] && [ "$(grep -c tried flaky)" -eq 2 ]; then
        echo 'test result: ok. 1 passed; 0 failed'
    else
        printf '\n---- %s stdout ----\nthread panicked at tests/t.rs:7:1:\n' "$2"
        exit 101
    fi ;;
*)
    printf 'test steady ... ok\ntest flaky ... FAILED\n'
    kill -s ABRT $$ ;;
esac
