# shellcheck shell=bash
# Checks of what an operator can change: flags, addresses, units. Sourced by run.

check_flags() {
    local before=$failed
    say 'flags in /etc/default/rendezvousd'
    local began answered
    set_flags '--max-connections 6000 --max-entries 5000'
    check 'restart with other flags' inside systemctl restart rendezvousd
    check 'they are in force' grep -q 'limits: 5000 sessions' <<<"$(journal 6 6)"
    check 'too few descriptors are a warning' grep -q 'LimitNOFILE=' <<<"$(journal 4 4)"

    set_flags '--ttl never'
    check 'with a wrong flag it does not start' not inside systemctl restart rendezvousd
    patience=20 status "$tcp/rendezvous/none" >"$work/waiting" &
    local waiting=$!
    sleep 6
    check 'after many attempts the socket still stands' is_active rendezvousd.socket
    check 'the wrong flag is an error in the journal' grep -q 'ttl' <<<"$(journal 3 3)"
    set_flags ''
    began=$(now)
    wait $waiting
    answered=$(cat "$work/waiting")
    is 'mended, it starts by itself and answers who has waited' 404 "$answered"
    within 2000 "$began"
    check 'service and socket are active' is_active rendezvousd.service rendezvousd.socket
    explain "$before"
}

check_socket_restart() {
    local before=$failed
    say 'other addresses'
    local path
    path=$(open_session 'before the move')
    inside mkdir -p /etc/systemd/system/rendezvousd.socket.d
    inside sh -c 'printf "[Socket]\nListenStream=127.0.0.1:8095\n" \
        >/etc/systemd/system/rendezvousd.socket.d/override.conf; systemctl daemon-reload'
    check 'the socket restarts, and the service with it' inside systemctl restart rendezvousd.socket
    sleep 1
    check 'both are active' is_active rendezvousd.service rendezvousd.socket
    is 'the session is found at the new address' 'before the move' "$(fetch "http://127.0.0.1:8095$path")"
    inside rm -r /etc/systemd/system/rendezvousd.socket.d
    inside systemctl daemon-reload
    inside systemctl restart rendezvousd.socket
    is 'and back at the old one' 'before the move' "$(fetch "$tcp$path")"
    explain "$before"
}

check_admin() {
    local before=$failed
    say 'the operator'\''s socket'
    local path
    path=$(open_session 'before the operator came')
    is 'before it is enabled' 000 "$(status http://127.0.0.1:8091/health)"
    inside systemctl enable -q rendezvousd-admin.socket
    check 'enabled, it comes with a restart of the service' inside systemctl restart rendezvousd
    check 'all are active' is_active rendezvousd.service rendezvousd.socket rendezvousd-admin.socket
    is '/health' 200 "$(status http://127.0.0.1:8091/health)"
    is '/metrics' 200 "$(status http://127.0.0.1:8091/metrics)"
    is 'sessions have outlived it' 'before the operator came' "$(fetch "$tcp$path")"
    is 'the public port has no /metrics' 404 "$(status "$tcp/metrics")"
    is 'the operator'\''s port has no sessions' 404 "$(status "http://127.0.0.1:8091$path")"
    inside systemctl disable -q --now rendezvousd-admin.socket
    check 'and goes again' inside systemctl restart rendezvousd
    is 'afterwards' 000 "$(status http://127.0.0.1:8091/health)"
    explain "$before"
}

check_direct() {
    local before=$failed
    local path
    say 'the service that binds itself'
    check 'it starts' inside systemctl start rendezvousd-direct.service
    check 'it is active' is_active rendezvousd-direct.service
    is 'the others have gone' 'inactive inactive' \
        "$(inside systemctl is-active rendezvousd.service rendezvousd.socket | tr '\n' ' ' | sed 's/ $//')"
    path=$(open_session 'directly')
    is 'it answers' 'directly' "$(fetch "$tcp$path")"
    check 'restart' inside systemctl restart rendezvousd-direct.service
    is 'sessions outlive it' 'directly' "$(fetch "$tcp$path")"
    check_sandbox rendezvousd-direct.service
    check 'the other service takes over again' inside systemctl start rendezvousd.service
    check 'with its socket' is_active rendezvousd.service rendezvousd.socket
    check 'and not beside this one' not inside systemctl -q is-active rendezvousd-direct.service
    explain "$before"
}
