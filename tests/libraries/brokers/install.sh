#!/bin/sh
# Installs what the real brokers (and the Rust build) need, as far as this machine allows it.
#
#   target/brokers/kafka             Apache Kafka, by Maven                (needs Maven and Java 17 or newer)
#   target/brokers/bin/nats-server   nats-server, by `go install`         (needs Go 1.26 or newer)
#   rabbitmq-server, redis-server    by apt-get, only as root on a Debian-like system
#
# BROKERS_HOME moves the folder. What is already there is left alone, so a second run costs nothing. What cannot be had
# is one sentence on stderr; the rest goes on, and the exit code is 1.
set -u

here=$(cd "$(dirname "$0")" && pwd)
home=${BROKERS_HOME:-$(cd "$here/../../.." && pwd)/target/brokers}
nats_version=2.15.2
kafka_version=$(sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$here/kafka/pom.xml")
status=0

# Debian's package puts the real scripts here; the ones in sbin change the user.
PATH=$PATH:/usr/sbin:/sbin

have() { command -v "$1" >/dev/null 2>&1; }
lacking() { echo "$1" >&2; status=1; }

# The major version of the Java runtime, 0 without one.
java_version() {
    have java || { echo 0; return; }
    java -version 2>&1 | sed -n '/version "/{s/.*version "\([0-9]*\).*/\1/p;q;}' | grep . || echo 0
}

# True for a nats-server that has what the tests use (2.11).
nats_is_recent() {
    "$1" --version 2>/dev/null | grep -Eq 'v(2\.(1[1-9]|[2-9][0-9])|[3-9]|[1-9][0-9])\.'
}

has_kafka_jars() { [ -f "$home/kafka/lib/kafka_2.13-$kafka_version.jar" ]; }
has_kafka() { has_kafka_jars && [ -f "$home/kafka/formatted/bootstrap.checkpoint" ]; }
has_nats() { nats_is_recent "$home/bin/nats-server" || nats_is_recent nats-server; }
has_rabbitmq() { have rabbitmq-server; }
has_redis() { have redis-server; }

# What a Debian package brings, and the package.
packages=
wanted() { packages="$packages $1"; }
have cc || wanted gcc
have c++ || have g++ || wanted g++
have make || wanted make
have cmake || wanted cmake
echo '#include <zlib.h>' | cc -E - >/dev/null 2>&1 || wanted zlib1g-dev
has_rabbitmq || wanted rabbitmq-server
has_redis || wanted redis-server
[ "$(java_version)" -ge 17 ] || wanted default-jre-headless
has_kafka_jars || have mvn || wanted maven

policy=/usr/sbin/policy-rc.d
install_packages() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >"$home/apt.log" 2>&1
}
if [ -n "$packages" ] && have apt-get && [ "$(id -u)" = 0 ]; then
    echo "installing$packages with apt-get (needs root)"
    mkdir -p "$home"
    # We want the program, not the service: nothing may be started by the installation, now or at the next boot.
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM HUP
    fi
    # shellcheck disable=SC2086 # a list of package names
    install_packages $packages || { apt-get update -q >/dev/null 2>&1; install_packages $packages; } ||
        { lacking "apt-get could not install$packages:"; tail -n 5 "$home/apt.log" >&2; }
    case $packages in *rabbitmq-server*)
        have systemctl && systemctl disable rabbitmq-server.service epmd.service epmd.socket >/dev/null 2>&1
    esac
    case $packages in *redis-server*)
        have systemctl && systemctl disable redis-server.service >/dev/null 2>&1
    esac
fi

# For the Rust build.
debian='on Debian as root: `make brokers`'
have cc || lacking "there is no C compiler, which the Rust build needs: install gcc ($debian)"
have c++ || have g++ || lacking "there is no C++ compiler, which the Rust build needs: install g++ ($debian)"
have make || lacking "make is not installed, which the Rust build needs: run \`apt-get install make\` or the like"
have cmake || lacking "cmake is not installed, which the Rust build needs: install cmake ($debian)"
! have cc || echo '#include <zlib.h>' | cc -E - >/dev/null 2>&1 ||
    lacking "zlib.h is not installed, which the Rust build needs: install zlib1g-dev ($debian)"

# Kafka. A node starts on a formatted folder; formatting one here, to be copied, takes that second out of every start.
format_kafka() {
    rm -rf "$home/kafka/formatted"
    {
        cat "$here/kafka/server.properties"
        echo "log.dirs=$home/kafka/partial"
        echo "controller.quorum.voters=0@127.0.0.1:9093"
        echo "listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    } >"$home/kafka/format.properties"
    java -cp "$home/kafka/lib/*" kafka.tools.StorageTool format -t MkU3OEVBNTcwNTJENDM2Qk \
        -c "$home/kafka/format.properties" && mv "$home/kafka/partial" "$home/kafka/formatted"
}
if ! has_kafka_jars && have mvn; then
    echo "installing Apache Kafka $kafka_version into $home/kafka with Maven"
    rm -rf "$home/kafka"
    mkdir -p "$home/kafka"
    if mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies \
        -DoutputDirectory="$home/kafka/partial" >"$home/kafka/install.log" 2>&1; then
        mv "$home/kafka/partial" "$home/kafka/lib"
    else
        tail -n 5 "$home/kafka/install.log" >&2
    fi
fi
if [ "$(java_version)" -lt 17 ]; then
    lacking "Java 17 or newer is not installed, which Apache Kafka needs: install a Java runtime ($debian)"
elif has_kafka_jars && ! has_kafka; then
    format_kafka >"$home/kafka/install.log" 2>&1 || tail -n 5 "$home/kafka/install.log" >&2
fi
has_kafka || lacking "Apache Kafka is not installed: install Maven and Java 17 or newer, then run \`make brokers\`"

# NATS.
if ! has_nats && have go; then
    echo "installing nats-server $nats_version into $home/bin with Go"
    mkdir -p "$home/bin"
    get_nats() {
        GOBIN=$home/bin GOTOOLCHAIN=local go install "github.com/nats-io/nats-server/v2@v$nats_version"
    }
    # Where the checksum database cannot be reached, the module proxy's word has to do: not where the two disagree.
    get_nats_unchecked() {
        grep -q 'verifying ' "$home/go.log" || return 1
        ! grep -Eq 'SECURITY ERROR|checksum mismatch' "$home/go.log" || return 1
        mv "$home/go.log" "$home/go.checked.log"
        echo "the checksum database could not be reached (see $home/go.checked.log): trying without it"
        GOSUMDB=off get_nats >"$home/go.log" 2>&1
    }
    get_nats >"$home/go.log" 2>&1 || get_nats_unchecked || tail -n 5 "$home/go.log" >&2
fi
has_nats || lacking "nats-server 2.11 or newer is not installed: install Go 1.26 or newer, then run \`make brokers\`"

# RabbitMQ.
has_rabbitmq || lacking "rabbitmq-server is not installed: install it ($debian)"

# Redis.
has_redis || lacking "redis-server is not installed: install it ($debian)"

exit $status
