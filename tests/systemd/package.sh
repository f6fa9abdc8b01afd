# shellcheck shell=bash
# Checks of the package: what is in it, and what dpkg does with it. Sourced by run.

check_package() {
    say 'the package'
    lintian --allow-root --fail-on error "$work/1.deb" >"$work/lintian" 2>&1
    is 'lintian exits with' 0 $?
    sed 's/^/         /' "$work/lintian"
    check 'mandoc has nothing to say of the manual page' \
        same '' "$(mandoc -T lint -W warning systemd/rendezvousd.8)"
    local files
    files=$(dpkg-deb --fsys-tarfile "$work/1.deb" | tar t | grep -v '/$' | sort | tr '\n' ' ')
    is 'its files' "./etc/default/rendezvousd ./usr/bin/rendezvousd $(
        printf './usr/lib/systemd/system/%s\n' $units | sort | tr '\n' ' '
    )./usr/share/doc/rendezvousd/README.md ./usr/share/doc/rendezvousd/changelog.Debian.gz $(
    )./usr/share/doc/rendezvousd/copyright ./usr/share/man/man8/rendezvousd.8.gz " "$files"
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
    check 'on again' inside systemctl enable -q --now rendezvousd.service
    check 'with its socket' are active rendezvousd.service rendezvousd.socket
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
