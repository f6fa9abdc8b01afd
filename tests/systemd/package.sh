# shellcheck shell=bash
# Checks of the package: what is in it, and what dpkg does with it. Sourced by run.

check_package() {
    say 'the package'
    lintian --allow-root --fail-on error,warning "$work/1.deb" "$work/2.deb" >"$work/lintian" 2>&1
    is 'lintian exits with' 0 $?
    sed 's/^/         /' "$work/lintian"
    check 'its version is that of its changelog' same "$(dpkg-deb --field "$work/2.deb" Version)" \
        "$(packed /usr/share/doc/rendezvousd/changelog.Debian.gz | zcat | sed -n '1s/.*(\(.*\)).*/\1/p')"
    check 'mandoc has nothing to say of the manual page' \
        same '' "$(mandoc -T lint -W warning systemd/rendezvousd.8)"
    local files
    files=$(dpkg-deb --fsys-tarfile "$work/1.deb" | tar t | grep -v '/$' | sort | tr '\n' ' ')
    is 'its files' "./etc/default/rendezvousd ./usr/bin/rendezvousd $(
        printf './usr/lib/systemd/system/%s\n' $units | sort | tr '\n' ' '
        printf './usr/share/doc/rendezvousd/%s\n' changelog.Debian.gz copyright README.md \
            systemd/README.md systemd/{container/*.*,monitoring/*} tests/README.md tests/*/README.md \
            tests/bench/plots/*.svg |
            sort | tr '\n' ' '
    )./usr/share/lintian/overrides/rendezvousd ./usr/share/man/man8/rendezvousd.8.gz " "$files"
    check 'every link of its documents leads to one of its files' same '' "$(dead_links)"
    is 'its configuration file' /etc/default/rendezvousd \
        "$(dpkg-deb --ctrl-tarfile "$work/1.deb" | tar xO ./conffiles)"
}

# Links in the package's documents to files that it does not have.
dead_links() {
    local documents=$work/2/usr/share/doc/rendezvousd document link
    dpkg-deb --extract "$work/2.deb" "$work/2"
    grep -qF '](systemd/README.md)' "$documents/README.md" || echo 'README.md has no links'
    find "$documents" -name '*.md' | while read -r document; do
        grep -o '](\(https://\)\{0,1\}[^)#]*' "$document" | sed 's/^..//' | while read -r link; do
            case $link in
            '' | https://*) ;;
            *) [ -e "${document%/*}/$link" ] || echo "${document#"$documents/"}: $link" ;;
            esac
        done
    done
}

# packed FILE: as it is in the package
packed() {
    dpkg-deb --fsys-tarfile "$work/2.deb" | tar xO ".$1"
}

# apt_install NUMBER [OPTION...]: as the README says it, by an operator who keeps their
# /etc/default/rendezvousd.
apt_install() {
    local number=$1
    shift
    inside env DEBIAN_FRONTEND=noninteractive apt-get install -y \
        -o Dpkg::Options::=--force-confold "$@" "/root/$number.deb"
}

# dpkg_install NUMBER: also if it is there already
dpkg_install() {
    inside dpkg --force-confold --install "/root/$1.deb"
}

# Nothing, once systemd has forgotten the units that were removed.
knows_no_unit() {
    same '' "$(inside systemctl list-units --all --plain --no-legend 'rendezvousd*' | grep -v masked)"
}

check_installation() {
    say 'installation'
    files >"$work/before"
    check 'apt install' apt_install 1
    check 'service and socket are active' are active rendezvousd.service rendezvousd.socket
    is 'enabled' 'enabled enabled disabled disabled' "$(inside systemctl is-enabled \
        rendezvousd.service rendezvousd.socket rendezvousd-admin.socket rendezvousd-direct.service |
        tr '\n' ' ' | sed 's/ $//')"
    check 'the operator'\''s socket is not active' not inside systemctl -q is-active rendezvousd-admin.socket
    is 'restarts so far' 0 "$(property NRestarts)"
    soon 'it says how it goes' says_how_it_goes
    check 'its directory holds no state while it runs' \
        not inside test -e /run/rendezvousd/state
}

says_how_it_goes() {
    property StatusText | grep -E \
        '^[0-9]+ sessions, [0-9]+ connections now; since the start [0-9]+ completed, '
}

# What an operator has changed outlives an upgrade, and so does a sign-in.
check_upgrade() {
    local before=$failed path pid flags='--max-entries 5000'
    say 'upgrades, and back'
    set_flags "$flags"
    inside systemctl reload rendezvousd
    soon 'other flags are in force' has_flags "$flags"
    path=$(open_session 'before the upgrade')
    pid=$(main_pid)
    check 'an older package is refused' not apt_install 1
    is 'the same process' "$pid" "$(main_pid)"
    check 'a newer one is installed' apt_install 3
    is_upgraded "$pid" "$path" "$flags"
    check 'the new /etc/default/rendezvousd is beside the old one' \
        inside test -e /etc/default/rendezvousd.dpkg-dist
    pid=$(main_pid)
    check 'an older one is installed if one insists' apt_install 1 --allow-downgrades
    is_upgraded "$pid" "$path" "$flags"
    set_flags ''
    check 'restart with none' inside systemctl restart rendezvousd
    explain "$before"
}

# is_upgraded PID PATH FLAGS: it was this process, with this session and these flags.
is_upgraded() {
    soon 'another process is active' is_another rendezvousd.service "$1"
    is 'it runs the new program' /usr/bin/rendezvousd \
        "$(inside readlink "/proc/$(main_pid)/exe")"
    is 'the session has outlived it' 'before the upgrade' "$(fetch "$tcp$2")"
    check 'the flags are as they were' has_flags "$3"
}

# has_flags FLAGS: it runs with them.
has_flags() {
    inside cat "/proc/$(main_pid)/cmdline" | tr '\0' ' ' | grep -e "$1"
}

check_disabled() {
    local before=$failed
    say 'an upgrade of what the operator has switched off'
    inside systemctl disable -q --now rendezvousd.service rendezvousd.socket
    check 'dpkg -i' dpkg_install 2
    is 'it stays off' 'disabled disabled inactive inactive' \
        "$(inside sh -c 'systemctl is-enabled rendezvousd.service rendezvousd.socket
            systemctl is-active rendezvousd.service rendezvousd.socket' | tr '\n' ' ' | sed 's/ $//')"
    inside systemctl enable -q rendezvousd.service
    check 'dpkg -i' dpkg_install 2
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
    soon 'systemd knows no unit of it' knows_no_unit
    set_flags ''
    check 'dpkg -i of the same version' dpkg_install 2
    check 'service and socket are active' are active rendezvousd.service rendezvousd.socket
    check 'and nothing else' are inactive rendezvousd-admin.socket rendezvousd-direct.service
    check 'as before enabled' enabled rendezvousd.service enabled rendezvousd.socket enabled \
        rendezvousd-admin.socket disabled rendezvousd-direct.service disabled
    is 'it answers' 404 "$(status "$tcp/rendezvous/none")"

    inside systemctl enable -q rendezvousd-admin.socket
    check 'dpkg --remove, with the operator'\''s socket enabled' inside dpkg --remove rendezvousd
    check 'dpkg -i of a newer version' dpkg_install 3
    check 'all three are active' are active rendezvousd.service rendezvousd.socket rendezvousd-admin.socket
    is 'a scrape' 200 "$(status http://127.0.0.1:8091/metrics)"

    inside systemctl disable -q --now rendezvousd.service rendezvousd.socket
    inside systemctl enable -q --now rendezvousd-direct.service
    check 'dpkg --remove, of the service that binds itself' inside dpkg --remove rendezvousd
    is 'the port' 000 "$(status "$tcp/")"
    check 'dpkg -i of the same version' dpkg_install 3
    check 'it is active' are active rendezvousd-direct.service
    check 'the others are not' are inactive rendezvousd.service rendezvousd.socket rendezvousd-admin.socket
    check 'as before enabled' enabled rendezvousd.service disabled rendezvousd.socket disabled \
        rendezvousd-admin.socket enabled rendezvousd-direct.service enabled
    pid=$(main_pid rendezvousd-direct.service)
    check 'an upgrade' dpkg_install 3
    check 'has restarted it' not same "$pid" "$(main_pid rendezvousd-direct.service)"
    check 'and nothing else' are inactive rendezvousd.service rendezvousd.socket rendezvousd-admin.socket
    is 'it answers' 404 "$(status "$tcp/rendezvous/none")"

    inside systemctl disable -q --now rendezvousd-direct.service rendezvousd-admin.socket
    check 'dpkg --remove, of what is switched off' inside dpkg --remove rendezvousd
    check 'dpkg -i' dpkg_install 3
    check 'it stays off' are inactive rendezvousd.service rendezvousd.socket \
        rendezvousd-admin.socket rendezvousd-direct.service
    check 'on again' inside systemctl enable -q --now rendezvousd.service
    explain "$before"
}

# An installation while a server that was started by hand has the port.
check_port_taken() {
    local before=$failed
    say 'installation beside a server that was started by hand'
    check 'apt remove' inside apt-get remove -y rendezvousd
    inside systemd-run -q --unit=by-hand /root/rendezvousd
    soon 'the other one answers' asked "$tcp/rendezvous/none" 404
    check 'apt install, nevertheless' apt_install 3
    check 'neither service nor socket is active' not inside systemctl -q is-active \
        rendezvousd.service rendezvousd.socket
    soon 'systemctl status rendezvousd says what to do' advises_to_stop
    check 'the journal of the socket names the address' grep -q \
        '127.0.0.1:8090.*Address already in use' <<<"$(read_journal -u rendezvousd.socket)"
    inside systemctl stop by-hand
    check 'what it says' inside systemctl start rendezvousd
    check 'service and socket are active' are active rendezvousd.service rendezvousd.socket
    is 'it answers' 404 "$(status "$tcp/rendezvous/none")"
    explain "$before"
}

# asked URL STATUS
asked() {
    same "$2" "$(status "$1")"
}

advises_to_stop() {
    grep 'stop the server that has it.*systemctl start rendezvousd' \
        <<<"$(inside systemctl status --no-pager -l rendezvousd)"
}

check_removal() {
    say 'removal and purge'
    inside systemctl enable -q rendezvousd-admin.socket
    inside systemctl restart rendezvousd
    inside sh -c 'echo >>/etc/default/rendezvousd'
    check 'dpkg --remove' inside dpkg --remove rendezvousd
    check_nothing_runs
    check 'the operator'\''s flags stay' inside test -e /etc/default/rendezvousd
    check 'dpkg --purge' inside dpkg --purge rendezvousd
    check_nothing_left
    check 'apt install' apt_install 2
    is 'a session opens' 201 "$(status -H "$text" -H "$client" --data x "$tcp/rendezvous")"
    check 'apt purge, of what runs' inside apt-get purge -y rendezvousd
    check_nothing_runs
    check_nothing_left
}

# Installation, upgrade and removal as systemd/README.md says it of a clone, but for
# the build.
check_by_hand() {
    local before=$failed clone=$machine/root/clone
    say 'without a package'
    mkdir -p "$clone/target/release"
    cp "$target/release/rendezvousd" "$clone/target/release/"
    cp -r systemd "$clone/"
    check 'as the document says it' by_hand 2,6p
    check 'service and socket are active' are active rendezvousd.service rendezvousd.socket
    local path pid
    path=$(open_session 'by hand')
    pid=$(main_pid)
    check 'an upgrade' by_hand 2,3p
    check 'with a restart' inside sh -c 'systemctl daemon-reload; systemctl restart rendezvousd'
    check 'it is another process' is_another rendezvousd.service "$pid"
    is 'the session has outlived it' 'by hand' "$(fetch "$tcp$path")"
    inside systemctl disable -q --now rendezvousd.service rendezvousd.socket
    inside sh -c 'rm -r /root/clone /usr/bin/rendezvousd /etc/default/rendezvousd \
        /etc/systemd/system/rendezvousd* /usr/local/share/man/man8; systemctl daemon-reload'
    check_nothing_runs
    explain "$before"
}

# by_hand LINES: runs these lines of the commands
by_hand() {
    local commands
    commands=$(sed -n '/^## Without a package/,/^## /s/^    //p' systemd/README.md |
        sed -n "$1" | sed 's/^sudo //')
    [ -n "$commands" ] && inside sh -ec "cd /root/clone; $commands"
}

check_nothing_runs() {
    check 'nothing of it runs' same '' "$(inside sh -c 'cat /proc/[0-9]*/comm | grep rendezvousd')"
    is 'the port' 000 "$(status "$tcp/")"
    check 'the Unix socket is gone' not inside test -e /run/rendezvousd.sock
}

check_nothing_left() {
    files >"$work/after"
    check 'no file is left' same '' "$(comm -13 "$work/before" "$work/after")"
    check 'no file of others is lost' same '' "$(comm -23 "$work/before" "$work/after")"
    soon 'systemd knows no unit of it' knows_no_unit
    check 'nor a file of one' same '' "$(inside systemctl list-unit-files --no-legend 'rendezvousd*')"
    check 'no user is left' not inside getent passwd rendezvousd
    check 'dpkg knows nothing of it' not inside dpkg -s rendezvousd
}
