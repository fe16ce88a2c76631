#!/bin/sh
# Install what is missing for the purposes named (demo, test, bench, check); silent when nothing is.
#
# Debian packages with apt-get, when we may; else one line says what to run (exit 2). Python packages as locked, into
# .venv. Output of the tools goes to .run/setup.log; its end is shown when a step fails (exit 1).
set -eu

cd "$(dirname "$0")/.."
log=.run/setup.log
oldest=11
newest=14

say() { printf '%s\n' "$*"; }
refuse() { say "$*" >&2; exit 2; }

# run WHAT COMMAND...: run a step with its output in the log.
run() {
    what=$1
    shift
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        say "$what failed; the end of $log:" >&2
        tail -n 20 "$log" | sed 's/^/    /' >&2
        exit 1
    fi
}

# --- Debian packages

has_any() { for path in "$@"; do [ -x "$path" ] && return 0; done; return 1; }
find_library() { find /usr/lib /usr/lib64 -maxdepth 2 -name "$1" 2>/dev/null | head -n 1; }

# find_missing PURPOSE...: the packages that these purposes need and whose programs are not here.
find_missing() {
    for purpose in "$@"; do
        case $purpose in
        check) ;;
        demo | test | bench)
            has_any /usr/lib/rabbitmq/bin/rabbitmq-server || say rabbitmq-server
            has_any /usr/lib/postgresql/*/bin/initdb || say postgresql
            ;;
        esac
        case $purpose in
        test | bench) has_any /usr/sbin/postfix || say postfix ;;
        esac
        case $purpose in
        test)
            has_any /usr/bin/swaks || say swaks
            perl -MNet::SSLeay -e 1 2>/dev/null || say libnet-ssleay-perl # swaks has TLS with it alone
            has_any /usr/bin/curl || say curl
            has_any /usr/bin/msmtp || say msmtp
            ls /usr/lib/*/sasl2/libplain.so >/dev/null 2>&1 || say libsasl2-modules # AUTH of Postfix as a client
            has_any /usr/bin/node || say nodejs
            has_any /usr/bin/npm || say npm
            has_any /usr/bin/php || say php-cli
            [ -e /usr/share/php/PhpAmqpLib/autoload.php ] || say php-amqplib
            has_any /usr/bin/strace || say strace
            has_any /usr/bin/memcached || say memcached
            has_any /usr/sbin/dnsmasq || say dnsmasq-base
            has_any /usr/sbin/unbound || say unbound
            [ -e "$(find_library libnss_wrapper.so)" ] || say libnss-wrapper
            for server in proxy account container object; do
                has_any /usr/bin/swift-$server-server || say swift-$server
            done
            ;;
        esac
    done | sort -u
}

# may_install: whether we can use apt-get; sets $become to what has to stand before it.
may_install() {
    command -v apt-get >/dev/null || return 1
    become=
    [ "$(id -u)" = 0 ] && return 0
    become="sudo -n"
    command -v sudo >/dev/null && sudo -n true 2>/dev/null
}

apt() {
    $become env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 "$@"
}

# Postfix is wanted for its programs: its own system service shall not listen to the world.
preseed() {
    case " $* " in
    *" postfix "*) echo "postfix postfix/main_mailer_type select Local only" | $become debconf-set-selections ;;
    esac
}

install_packages() {
    preseed "$@"
    if ! ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1 || ! apt install --no-install-recommends "$@"; then
        apt update && apt install --no-install-recommends "$@"
    fi
}

# need_packages PACKAGE...: install them, or say how. A package whose own system service does not start (its port may be
# in use) counts as failed for apt-get although its programs are there: the callers look for those.
need_packages() {
    [ $# -gt 0 ] || return 0
    if ! may_install; then
        if command -v apt-get >/dev/null; then
            refuse "Missing on this machine: $*. Run: sudo apt-get update && sudo apt-get install --no-install-recommends $*"
        fi
        refuse "Missing on this machine: $* (names of Debian's packages). Install them, then run this again."
    fi
    say "Debian packages: installing $*"
    install_packages "$@" >>"$log" 2>&1 </dev/null || say "Debian packages: apt-get reports trouble (see $log)"
}

# --- Unpacked, not installed: Exim, because Debian's package would replace Postfix (both are the mail-transport-agent), and promtool,
# because its package starts a Prometheus

packages=.run/packages
exim=$packages/exim4
promtool=$packages/promtool

# download_package PACKAGE FILE: the package as .run/packages/FILE.deb.
download_package() {
    (cd $packages && rm -f "$1"_* && apt-get -q download "$1" && mv "$1"_* "$2.deb")
}

# unpack_program FILE PATH: one program of the package. Its content alone: what is set-user-ID root there runs as whoever starts it here.
unpack_program() {
    dpkg-deb --fsys-tarfile "$packages/$1.deb" | tar -x -O "./$2" >"$packages/$1.new" &&
        chmod 755 "$packages/$1.new" && mv "$packages/$1.new" "$packages/$1"
}

# need_unpacked PACKAGE FILE PATH: the program at PATH of the package, as .run/packages/FILE.
need_unpacked() {
    [ ! -x "$packages/$2" ] || return 0
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        refuse "Missing on this machine: $packages/$2. Put the program /$3 of Debian's $1 there, then run this again."
    fi
    say "Debian packages: unpacking $1 into $packages"
    mkdir -p $packages
    if ! download_package "$1" "$2" >>"$log" 2>&1 </dev/null; then
        may_install || refuse "$1 cannot be downloaded (see $log). Run: sudo apt-get update, then this again."
        run "Updating the lists of packages" apt update
        run "Downloading $1" download_package "$1" "$2"
    fi
    run "Unpacking $1" unpack_program "$2" "$3"
}

# missing_libraries: the packages of the libraries that Exim needs, when it does not find them all.
missing_libraries() {
    ldd $exim | grep -q "not found" || return 0
    dpkg-deb -f $exim.deb Depends | tr , '\n' | awk '$1 ~ /^lib/ { print $1 }'
}

need_exim() {
    need_unpacked exim4-daemon-light exim4 usr/sbin/exim4
    # shellcheck disable=SC2046 # names of packages, to be split
    need_packages $(missing_libraries)
    ! ldd $exim | grep "not found" >>"$log" || run "Finding the libraries of Exim" false
}

need_promtool() {
    need_unpacked prometheus promtool usr/bin/promtool
    # 19 MB, of which one program is used.
    rm -f $promtool.deb
}

# --- Node: the clients that the tests run, as locked, into .run/node

node=.run/node

need_node_packages() {
    locked=$(cat tests/support/node/package.json tests/support/node/package-lock.json | sha256sum)
    [ "$(cat $node/.fingerprint 2>/dev/null)" != "$locked" ] || return 0
    say "Node packages: installing those of tests/support/node/package-lock.json into $node"
    mkdir -p $node
    cp tests/support/node/package.json tests/support/node/package-lock.json $node/
    run "Installing the locked Node packages" npm ci --prefix $node --ignore-scripts --no-audit --no-fund
    echo "$locked" >$node/.fingerprint
}

# --- Python

fits() {
    "$1" -c "import sys, venv, ensurepip; sys.exit(not (3, $oldest) <= sys.version_info[:2] <= (3, $newest))" 2>/dev/null
}

# find_python: set $python to an interpreter that can make a .venv.
find_python() {
    for python in "${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11; do
        command -v "$python" >/dev/null && fits "$python" && return 0
    done
    return 1
}

# The system's python3, unless that is too old (Ubuntu 22.04): then python3.11.
missing_python() {
    if command -v python3 >/dev/null && ! python3 -c "import sys; sys.exit(sys.version_info < (3, $oldest))"; then
        say python3.11 python3.11-venv
    else
        say python3 python3-venv
    fi
}

fingerprint() {
    { pwd -P; .venv/bin/python -VV; cat requirements.lock pyproject.toml; } | sha256sum
}

install_locked() {
    say "Python packages: installing those of requirements.lock into .venv"
    pip="--quiet --no-input --disable-pip-version-check"
    # shellcheck disable=SC2086 # options, to be split
    run "Installing the locked Python packages" .venv/bin/python -m pip install $pip --require-hashes -r requirements.lock
    # shellcheck disable=SC2086
    run "Installing mailwarren itself" .venv/bin/python -m pip install $pip --no-deps --no-build-isolation -e .
}

# --- the steps

for purpose in "$@"; do
    case $purpose in
    demo | test | bench | check) ;;
    *) refuse "$0: unknown purpose '$purpose': expected demo, test, bench or check" ;;
    esac
done
mkdir -p .run 2>/dev/null || refuse "$(pwd) cannot be written to by this user"
[ -w .run ] || refuse "$(pwd)/.run belongs to another user: delete it, or run this as that user"
: >>"$log"

missing=$(find_missing "$@")
has_venv=false
# A .venv of a checkout that was moved has its old path in every script.
if fits .venv/bin/python && [ "$(cat .venv/.home 2>/dev/null)" = "$(pwd -P)" ]; then
    has_venv=true
elif ! find_python; then
    missing="$missing $(missing_python)"
fi
# shellcheck disable=SC2086 # names of packages, to be split
need_packages $missing
missing=$(find_missing "$@")
# shellcheck disable=SC2086,SC2116
[ -z "$missing" ] || run "Installing $(echo $missing)" false
case " $* " in
*" test "*)
    need_exim
    need_promtool
    need_node_packages
    ;;
esac

if ! $has_venv; then
    # shellcheck disable=SC2046
    find_python || need_packages $(missing_python)  # a python3 just installed may have turned out too old
    find_python || refuse "No Python 3.$oldest to 3.$newest with venv on this machine: install one"
    say "Python: making .venv with $("$python" -V)"
    run "Making .venv" "$python" -m venv --clear .venv
    pwd -P >.venv/.home
fi
if [ "$(cat .venv/.fingerprint 2>/dev/null)" != "$(fingerprint)" ]; then
    install_locked
    fingerprint >.venv/.fingerprint
fi
