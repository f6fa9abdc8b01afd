# shellcheck shell=bash
# Checks of the package: what is in it, and what dpkg does with it. Sourced by run.

check_package() {
    say 'the package'
    # As long as the project has no address of its own, none is made up.
    lintian --allow-root --fail-on error \
        --suppress-tags malformed-contact,bogus-mail-host-in-debian-changelog \
        "$work/1.deb" >"$work/lintian" 2>&1
    is 'lintian exits with' 0 $?
    sed 's/^/         /' "$work/lintian"
    check 'mandoc has nothing to say of the manual page' \
        same '' "$(mandoc -T lint -W warning systemd/rendezvousd.8)"
    local files
    files=$(dpkg-deb --fsys-tarfile "$work/1.deb" | tar t | grep -v '/$' | sort | tr '\n' ' ')
    is 'its files' "./etc/default/rendezvousd ./usr/bin/rendezvousd $(
        printf './usr/lib/systemd/system/%s\n' $units | sort | tr '\n' ' '
    )./usr/share/doc/rendezvousd/README.md ./usr/share/doc/rendezvousd/changelog.Debian.gz $(
    )./usr/share/doc/rendezvousd/copyright $(
        printf './usr/share/doc/rendezvousd/%s ' systemd/README.md \
            systemd/container/{compose.yaml,kubernetes.yaml,rendezvousd.container} tests/proxies/README.md
    )./usr/share/man/man8/rendezvousd.8.gz " "$files"
    is 'its configuration file' /etc/default/rendezvousd \
        "$(dpkg-deb --ctrl-tarfile "$work/1.deb" | tar xO ./conffiles)"
}

check_installation() {
    say 'installation'
    files >"$work/before"
    check 'dpkg -i' inside dpkg -i /root/1.deb
    check 'service and socket are active' are active rendezvousd.service rendezvousd.socket
    is 'enabled' 'enabled enabled disabled disabled' "$(inside systemctl is-enabled \
        rendezvousd.service rendezvousd.socket rendezvousd-admin.socket rendezvousd-direct.service |
        tr '\n' ' ' | sed 's/ $//')"
    check 'the operator'\''s socket is not active' not inside systemctl -q is-active rendezvousd-admin.socket
    is 'restarts so far' 0 "$(property NRestarts)"
    for _ in $(seq 30); do
        [ -z "$(property StatusText)" ] || break
        sleep 0.5
    done
    check "it says how it goes: $(property StatusText)" not same '' "$(property StatusText)"
    check 'its directory holds no state while it runs' \
        not inside test -e /run/rendezvousd/state
}

check_disabled() {
    local before=$failed
    say 'an upgrade of what the operator has switched off'
    inside systemctl disable -q --now rendezvousd.service rendezvousd.socket
    check 'dpkg -i' inside dpkg -i /root/2.deb
    is 'it stays off' 'disabled disabled inactive inactive' \
        "$(inside sh -c 'systemctl is-enabled rendezvousd.service rendezvousd.socket
            systemctl is-active rendezvousd.service rendezvousd.socket' | tr '\n' ' ' | sed 's/ $//')"
    inside systemctl enable -q rendezvousd.service
    check 'dpkg -i' inside dpkg -i /root/2.deb
    check 'what is enabled and has been stopped is not started' \
        are inactive rendezvousd.service rendezvousd.socket
    check 'on again' inside systemctl start rendezvousd.service
    check 'with its socket' are active rendezvousd.service rendezvousd.socket
    explain "$before"
}

# enabled UNIT STATE...
enabled() {
    while [ $# -gt 0 ]; do
        same "$2" "$(inside systemctl is-enabled "$1")" || return
        shift 2
    done
}

# Removal and installation again: what was enabled is, and runs.
check_reinstallation() {
    local before=$failed pid
    say 'removal and reinstallation'
    set_flags '--ttl never'
    inside systemctl restart -q rendezvousd 2>/dev/null
    check 'dpkg --remove, after it has failed' inside dpkg --remove rendezvousd
    check 'systemd knows no unit of it' same '' \
        "$(inside systemctl list-units --all --plain --no-legend 'rendezvousd*' | grep -v masked)"
    set_flags ''
    check 'dpkg -i of the same version' inside dpkg -i /root/2.deb
    check 'service and socket are active' are active rendezvousd.service rendezvousd.socket
    check 'and nothing else' are inactive rendezvousd-admin.socket rendezvousd-direct.service
    check 'as before enabled' enabled rendezvousd.service enabled rendezvousd.socket enabled \
        rendezvousd-admin.socket disabled rendezvousd-direct.service disabled
    is 'it answers' 404 "$(status "$tcp/rendezvous/none")"

    inside systemctl enable -q rendezvousd-admin.socket
    check 'dpkg --remove, with the operator'\''s socket enabled' inside dpkg --remove rendezvousd
    check 'dpkg -i of a newer version' inside dpkg -i /root/3.deb
    check 'all three are active' are active rendezvousd.service rendezvousd.socket rendezvousd-admin.socket
    is 'a scrape' 200 "$(status http://127.0.0.1:8091/metrics)"

    inside systemctl disable -q --now rendezvousd.service rendezvousd.socket
    inside systemctl enable -q --now rendezvousd-direct.service
    check 'dpkg --remove, of the service that binds itself' inside dpkg --remove rendezvousd
    is 'the port' 000 "$(status "$tcp/")"
    check 'dpkg -i of the same version' inside dpkg -i /root/3.deb
    check 'it is active' are active rendezvousd-direct.service
    check 'the others are not' are inactive rendezvousd.service rendezvousd.socket rendezvousd-admin.socket
    check 'as before enabled' enabled rendezvousd.service disabled rendezvousd.socket disabled \
        rendezvousd-admin.socket enabled rendezvousd-direct.service enabled
    pid=$(main_pid rendezvousd-direct.service)
    check 'an upgrade' inside dpkg -i /root/3.deb
    check 'has restarted it' not same "$pid" "$(main_pid rendezvousd-direct.service)"
    check 'and nothing else' are inactive rendezvousd.service rendezvousd.socket rendezvousd-admin.socket
    is 'it answers' 404 "$(status "$tcp/rendezvous/none")"

    inside systemctl disable -q --now rendezvousd-direct.service rendezvousd-admin.socket
    check 'dpkg --remove, of what is switched off' inside dpkg --remove rendezvousd
    check 'dpkg -i' inside dpkg -i /root/3.deb
    check 'it stays off' are inactive rendezvousd.service rendezvousd.socket \
        rendezvousd-admin.socket rendezvousd-direct.service
    check 'on again' inside systemctl enable -q --now rendezvousd.service
    explain "$before"
}

check_removal() {
    say 'removal and purge'
    inside systemctl enable -q rendezvousd-admin.socket
    inside systemctl restart rendezvousd
    inside sh -c 'echo >>/etc/default/rendezvousd'
    check 'dpkg --remove' inside dpkg --remove rendezvousd
    check 'nothing of it runs' same '' "$(inside sh -c 'cat /proc/[0-9]*/comm | grep rendezvousd')"
    is 'the port' 000 "$(status "$tcp/")"
    check 'the Unix socket is gone' not inside test -e /run/rendezvousd.sock
    check 'the operator'\''s flags stay' inside test -e /etc/default/rendezvousd
    check 'dpkg --purge' inside dpkg --purge rendezvousd
    files >"$work/after"
    check 'no file is left' same '' "$(comm -13 "$work/before" "$work/after")"
    check 'no file of others is lost' same '' "$(comm -23 "$work/before" "$work/after")"
    check 'systemd knows no unit of it' same '' \
        "$(inside systemctl list-units --all --plain --no-legend 'rendezvousd*')"
    check 'nor a file of one' same '' "$(inside systemctl list-unit-files --no-legend 'rendezvousd*')"
    check 'no user is left' not inside getent passwd rendezvousd
    check 'dpkg knows nothing of it' not inside dpkg -s rendezvousd
}
