#!/usr/bin/env bash
# Installs what the tests need on Debian 12 and skips what is there already.
#
#   tools/setup.sh           the real servers of tests/stack, and the contract tools
#   tools/setup.sh stack     only the servers
#   tools/setup.sh tools     only the contract tools (Node, Python, Chromium)
#   tools/setup.sh bench     what `make bench` compares with
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif has sudo; then sudo "$@"
    else fail "not root and no sudo; run as root: $*"
    fi
}

# Collects the packages whose program is missing: need PROGRAM PACKAGE…
packages=()
need() {
    local program=$1
    shift
    has "$program" || packages+=("$@")
}

need_stack() {
    need python3 python3
    need openssl openssl
    need dovecot dovecot-imapd dovecot-lmtpd
    [ -x /usr/lib/dovecot/imap ] || packages+=(dovecot-imapd)
    [ -x /usr/lib/dovecot/lmtp ] || packages+=(dovecot-lmtpd)
    need postfix postfix
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || packages+=(postgresql)
}

need_tools() {
    need python3 python3
    need curl curl
    need node nodejs npm
    need npm npm
    need chromium chromium fonts-dejavu-core
    [ -x .venv/bin/st ] || python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
}

need_bench() {
    need mbsync isync
    need wrk wrk
}

# Package scripts must not start Postfix, Dovecot or PostgreSQL: the stack starts its own.
policy=/usr/sbin/policy-rc.d
guard_services() {
    if [ -e $policy ]; then as_root mv $policy $policy.postroom-saved; fi
    trap restore_services EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
}
restore_services() {
    as_root rm -f $policy
    if [ -e $policy.postroom-saved ]; then as_root mv $policy.postroom-saved $policy; fi
    trap - EXIT
}

install_packages() {
    if [ ${#packages[@]} -eq 0 ]; then
        say 'Debian packages: all there'
        return
    fi
    has apt-get || fail "this machine has no apt-get; install yourself: ${packages[*]}"
    say "Debian packages: installing ${packages[*]}"
    as_root apt-get -q -o DPkg::Lock::Timeout=600 update </dev/null >/dev/null
    guard_services
    if has debconf-set-selections; then
        echo 'postfix postfix/main_mailer_type select No configuration' | as_root debconf-set-selections
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 \
        install --no-install-recommends "${packages[@]}" </dev/null >/dev/null
    restore_services
}

stamp_is() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

install_node_tools() {
    local stamp=tools/node_modules/.postroom-stamp wanted
    wanted=$(sha256sum tools/package-lock.json)
    if stamp_is $stamp "$wanted"; then
        say 'Node tools: all there'
        return
    fi
    say 'Node tools: npm ci'
    (cd tools && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --silent </dev/null)
    printf '%s\n' "$wanted" >$stamp
}

install_python_tools() {
    local stamp=.venv/.postroom-stamp wanted
    wanted=$(cat tools/requirements.txt tools/constraints.txt | sha256sum)
    if stamp_is $stamp "$wanted" && .venv/bin/st --version >/dev/null 2>&1; then
        say 'Python tools: all there'
        return
    fi
    local python=python3
    $python -c 'import ensurepip, venv' 2>/dev/null || python=/usr/bin/python3
    say 'Python tools: a new .venv'
    $python -m venv --clear .venv
    .venv/bin/pip install --quiet --disable-pip-version-check --no-input \
        -r tools/requirements.txt -c tools/constraints.txt </dev/null
    printf '%s\n' "$wanted" >$stamp
}

has cargo || fail 'cargo is missing: install Rust (rustup.rs), the version that Cargo.toml names'
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(stack tools)
need cc gcc libc6-dev
for part in "${parts[@]}"; do
    case $part in
    stack) need_stack ;;
    tools) need_tools ;;
    bench) need_bench ;;
    *) fail "no such part: $part (stack, tools, bench)" ;;
    esac
done
install_packages
for part in "${parts[@]}"; do
    if [ "$part" = tools ]; then
        install_node_tools
        install_python_tools
    fi
done
