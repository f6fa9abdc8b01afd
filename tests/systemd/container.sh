# shellcheck shell=bash
# The package, a root file system and the container that boots it. Sourced by run.

install_tools() {
    local missing=() tool
    for tool in curl:curl mmdebstrap:mmdebstrap systemd-nspawn:systemd-container \
        lintian:lintian mandoc:mandoc dpkg-shlibdeps:dpkg-dev; do
        command -v "${tool%:*}" >/dev/null || missing+=("${tool#*:}")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        apt-get update -qq && apt-get install -y -qq "${missing[@]}" >/dev/null ||
            die "cannot install ${missing[*]}"
    fi
    install_cargo_tools cargo-deb || die 'cannot install cargo-deb'
}

# Packages of the same program, each an upgrade of the one before: the last release,
# this commit, and the next release, which has another /etc/default/rendezvousd.
build() {
    cargo build --quiet --locked --release &&
        cargo build --quiet --locked --example systemd-clients || die 'it does not build'
    local version
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
    pack 1 cargo deb --locked --deb-version "$version-1"
    pack 2 systemd/package
    dpkg-deb --raw-extract "$work/2.deb" "$work/3" &&
        sed -i "s/^Version: .*/Version: $version.1-1/" "$work/3/DEBIAN/control" &&
        sed -i '1i # The next one.' "$work/3/etc/default/rendezvousd" &&
        dpkg-deb --build "$work/3" "$work/3.deb" >/dev/null || die 'cannot change the package'
}

# pack NUMBER COMMAND...: as this package
pack() {
    local number=$1
    shift
    "$@" --quiet --no-build --no-strip --output "$work/$number.deb" >/dev/null ||
        die "cannot make the package: $*"
}

# A minimal Debian of the machine's own release.
make_machine() {
    local codename
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    root=$cache/$codename
    make_root "$codename" "$root" systemd systemd-sysv dbus init-system-helpers ||
        die 'no root file system'
    # Nobody logs in.
    ln -sf /dev/null "$root/etc/systemd/system/getty.target"
    ln -sf /dev/null "$root/etc/systemd/system/console-getty.service"
}

descendants() {
    local child
    for child in $(pgrep -P "$1"); do
        echo "$child"
        descendants "$child"
    done
}

boot() {
    mkdir -p "$work/tmp" "$machine"
    mount -t tmpfs -o size=2g tmpfs "$work/tmp" &&
        mkdir "$work/tmp/upper" "$work/tmp/work" "$work/tmp/machine" &&
        mount -t overlay overlay "$work/tmp/machine" \
            -o "lowerdir=$root,upperdir=$work/tmp/upper,workdir=$work/tmp/work" ||
        die 'cannot mount the overlay'
    machine=$work/tmp/machine
    # On a host without systemd this is no tmpfs, and nspawn refuses to tidy up
    # behind itself.
    mkdir -p /run/systemd/nspawn && mount -t tmpfs tmpfs /run/systemd/nspawn ||
        die 'cannot mount /run/systemd/nspawn'
    cp "$work"/[123].deb "$target/release/rendezvousd" "$machine/root/"
    start
}

start() {
    # With these capabilities IPAddressDeny= is enforced.
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet -D "$machine" -b \
        --register=no --keep-unit --private-network --link-journal=no --resolv-conf=off \
        --timezone=off --console=pipe \
        --capability=CAP_BPF,CAP_NET_ADMIN --system-call-filter=bpf \
        </dev/null >"$work/console" 2>&1 &
    nspawn=$!
    find_leader || { tail -n 30 "$work/console"; die 'the container does not boot'; }
}

# The container's first process, once it has started everything.
find_leader() {
    local pid
    for _ in $(seq 300); do
        for pid in $(descendants "$nspawn"); do
            if grep -q '^NSpid:.*[^0-9]1$' "/proc/$pid/status" 2>/dev/null &&
                [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = systemd ]; then
                leader=$pid
                inside systemctl is-system-running --wait 2>/dev/null | grep -q 'running\|degraded' &&
                    return
            fi
        done
        sleep 0.1
    done
    return 1
}

inside() {
    nsenter -t "$leader" -a -- "$@" </dev/null
}

# What the journal says of the server, if checks have failed since there were
# so many failures.
explain() {
    [ "$failed" = "$1" ] || read_journal -o short-precise -n 40 -u 'rendezvousd*' | cut -c 1-160 | sed 's/^/         /'
}
