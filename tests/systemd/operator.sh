# shellcheck shell=bash
# Checks of what an operator can change: flags, addresses, units. Sourced by run.

check_flags() {
    local before=$failed
    say 'flags in /etc/default/rendezvousd'
    set_flags '--max-connections 6000 --max-entries 5000'
    check 'restart with other flags' inside systemctl restart rendezvousd
    check 'they are in force' grep -q 'limits: 5000 sessions' <<<"$(journal 6 6)"
    check 'too few descriptors are a warning' grep -q 'LimitNOFILE=' <<<"$(journal 4 4)"
    set_flags ''
    check 'restart with none' inside systemctl restart rendezvousd
    explain "$before"
}

# look_at UNIT REASON: 20 looks at `systemctl status` in some seconds, while
# clients ask. Sets how many showed the reason, how many seconds they took, and
# how many starts of the unit and lines of its journal there were meanwhile.
look_at() {
    local began
    seen=0
    began=$(date +%s.%6N)
    for _ in $(seq 20); do
        inside systemctl status --no-pager "$1" >"$work/status"
        ! grep -qF "$2" "$work/status" || seen=$((seen + 1))
        patience=0.1 status "$tcp/" >"$work/asked"
        patience=0.1 status --unix-socket "$(socket)" http://localhost/ >"$work/asked"
        sleep 0.2
    done
    seconds=$(($(date +%s) - ${began%.*}))
    inside journalctl -q --no-pager -u 'rendezvousd*' --since "@$began" -o cat >"$work/lines"
    starts=$(grep -c '^Starting ' "$work/lines")
    lines=$(wc -l <"$work/lines")
}

# check_wrong_flags UNIT: it fails at once and tries no more.
check_wrong_flags() {
    local before=$failed unit=$1 seen seconds starts lines
    say "a wrong flag for $unit"
    set_flags '--ttl never'
    # More often than systemd's own limit for starts.
    for _ in $(seq 7); do
        check 'it does not start' not inside systemctl restart "$unit"
    done
    look_at "$unit" "'--ttl' with value 'never'"
    is 'looks at systemctl status that show why, of 20' 20 "$seen"
    is 'starts meanwhile' 0 "$starts"
    # The last ones of the last start may come late.
    check "lines in the journal meanwhile: $lines" test "$lines" -le 5
    check 'it is an error in the journal' grep -q 'ttl' <<<"$(journal 3 3 "$unit")"
    check 'it has failed' are failed "$unit"
    set_flags ''
    check 'corrected, a restart brings it back' inside systemctl restart "$unit"
    check 'it is active' are active "$unit"
    is 'it answers' 404 "$(status "$tcp/rendezvous/none")"
    if [ "$unit" = rendezvousd.service ]; then
        check 'so is the socket' are active rendezvousd.socket
        is 'at the Unix socket too' 404 "$(status --unix-socket "$(socket)" http://localhost/)"
        set_flags '--ttl never'
        inside systemctl stop -q rendezvousd.service
        check 'started by a connection, it closes the socket' \
            same 000 "$(status "$tcp/rendezvous/none")"
        sleep 1
        check 'and has failed' are failed rendezvousd.service
        check 'with the socket closed' are inactive rendezvousd.socket
        set_flags ''
        check 'a restart brings all back' inside systemctl restart rendezvousd
        is 'it answers again' 404 "$(status "$tcp/rendezvous/none")"
    fi
    explain "$before"
}

# Flags that are right, but not in this unit.
check_misplaced_flags() {
    local before=$failed flags reason
    say 'flags that rendezvousd.service cannot have'
    while IFS='|' read -r flags reason; do
        set_flags "$flags"
        check "$flags: it does not start" not inside systemctl restart rendezvousd
        check "systemctl status names $reason" grep -qF "$reason" \
            <<<"$(inside systemctl status --no-pager rendezvousd | grep 'Status:')"
        check 'it is not tried again' are failed rendezvousd.service
    done <<END
--listen 127.0.0.1:8099|rendezvousd-direct.service
--admin 127.0.0.1:8099|rendezvousd-direct.service
--state-file /run/rendezvousd/other|systemd units give it already
END
    set_flags ''
    check 'a restart brings all back' inside systemctl restart rendezvousd
    explain "$before"
}

# check_failing_start UNIT: what may mend itself is tried again, but not often.
check_failing_start() {
    local before=$failed unit=$1 seen seconds starts lines waiting
    say "a start of $unit that fails"
    set_flags '--listen unix:/nonexistent/socket'
    inside systemctl restart --no-block "$unit"
    until grep -q nonexistent <<<"$(journal 3 3 "$unit")"; do
        sleep 0.2
    done
    if [ "$unit" = rendezvousd.service ]; then
        patience=20 status "$tcp/rendezvous/none" >"$work/waiting" &
        waiting=$!
    fi
    look_at "$unit" '/nonexistent/socket: No such file'
    # Not while it is being tried again.
    check "looks at systemctl status that show why, of 20: $seen" test "$seen" -ge 15
    check "at most a start every five seconds: $starts in $seconds s" \
        test "$starts" -le $((seconds / 5 + 1))
    check "at most ten lines in the journal each: $lines" test "$lines" -le $((starts * 10 + 10))
    set_flags ''
    if [ "$unit" = rendezvousd.service ]; then
        wait "$waiting"
        is 'mended, it starts by itself and answers who has waited' 404 "$(cat "$work/waiting")"
        check 'service and socket are active' are active rendezvousd.service rendezvousd.socket
    else
        check 'mended, it can be restarted' inside systemctl restart "$unit"
        is 'it answers' 404 "$(status "$tcp/rendezvous/none")"
    fi
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
    check 'both are active' are active rendezvousd.service rendezvousd.socket
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
    check 'all are active' are active rendezvousd.service rendezvousd.socket rendezvousd-admin.socket
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
    check 'it is active' are active rendezvousd-direct.service
    is 'the others have gone' 'inactive inactive' \
        "$(inside systemctl is-active rendezvousd.service rendezvousd.socket | tr '\n' ' ' | sed 's/ $//')"
    path=$(open_session 'directly')
    is 'it answers' 'directly' "$(fetch "$tcp$path")"
    check 'restart' inside systemctl restart rendezvousd-direct.service
    is 'sessions outlive it' 'directly' "$(fetch "$tcp$path")"
    check_sandbox rendezvousd-direct.service
    check 'the other service takes over again' inside systemctl start rendezvousd.service
    check 'with its socket' are active rendezvousd.service rendezvousd.socket
    check 'and not beside this one' not inside systemctl -q is-active rendezvousd-direct.service
    explain "$before"
}
