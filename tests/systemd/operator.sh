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

# is_another UNIT PID: it is active, as another process.
is_another() {
    are active "$1" && not same "$2" "$(main_pid "$1")"
}

# check_reload UNIT: wrong flags leave the server as it is; right ones come into
# force, and sessions outlive that.
check_reload() {
    local before=$failed unit=$1 pid path flags reason began
    say "a reload of $unit"
    path=$(open_session 'before the reload')
    pid=$(main_pid "$unit")
    while IFS='|' read -r flags reason; do
        # The last one is for one of the units.
        [ -n "$flags" ] || continue
        set_flags "$flags"
        began=$(journal_now)
        check "$flags: it is refused" not inside systemctl reload "$unit"
        check "the journal says why: $reason" grep -qF -e "$reason" \
            <<<"$(read_journal -u "$unit" --since "$began" -o cat)"
        is 'process' "$pid" "$(main_pid "$unit")"
        check 'it is active' are active "$unit"
        is 'the session is there' 'before the reload' "$(fetch "$tcp$path")"
    done <<END
--ttl 90|write 90s
--lisen 127.0.0.1:8090|did you mean --listen?
--state-file /run/rendezvousd/other|systemd units give it already
$([ "$unit" != rendezvousd.service ] || echo '--admin 127.0.0.1:8099|rendezvousd-direct.service')
END
    set_flags '--max-entries 5000'
    check 'right ones are taken' inside systemctl reload "$unit"
    soon 'by another process' is_another "$unit" "$pid"
    check 'they are in force' inside grep -q 5000 "/proc/$(main_pid "$unit")/cmdline"
    is 'sessions have outlived it' 'before the reload' "$(fetch "$tcp$path")"
    set_flags ''
    check 'restart with none' inside systemctl restart "$unit"
    explain "$before"
}

# look_at UNIT REASON: 20 looks at `systemctl status` in some seconds, while
# clients ask. Sets how many showed the reason, how many seconds they took, and
# how many starts of the unit and lines of its journal there were meanwhile.
look_at() {
    local began since
    seen=0
    since=$(journal_now)
    began=$(now)
    for _ in $(seq 20); do
        inside systemctl status --no-pager "$1" >"$work/status"
        ! grep -qF "$2" "$work/status" || seen=$((seen + 1))
        patience=0.1 status "$tcp/" >"$work/asked"
        patience=0.1 status --unix-socket "$(socket)" http://localhost/ >"$work/asked"
        sleep 0.2
    done
    seconds=$((($(now) - began) / 1000))
    read_journal -u 'rendezvousd*' --since "$since" -o cat >"$work/lines"
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
    # Of the sockets, which close meanwhile.
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
        soon 'and has failed' are failed rendezvousd.service
        soon 'with the socket closed' are inactive rendezvousd.socket
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
        patience=120 status "$tcp/rendezvous/none" >"$work/waiting" &
        waiting=$!
    fi
    look_at "$unit" '/nonexistent/socket: No such file'
    # Not while it is being tried again.
    check "looks at systemctl status that show why, of 20: $seen" test "$seen" -ge 10
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

# Longer than TimeoutStopSec= and WatchdogSec= of the unit, both 10 s.
check_drain() {
    local before=$failed path pid began
    say 'a drain of 25 s'
    set_flags '--drain 25s'
    check 'restart with the flag' inside systemctl restart rendezvousd
    path=$(open_session 'before the drain')
    pid=$(main_pid)
    began=$(date +%s.%6N)
    inside systemctl restart --no-block rendezvousd
    sleep 20
    is 'after 20 s it is the same process' "$pid" "$(main_pid)"
    is 'it creates no session' 503 "$(status -H "$text" -H "$client" --data x "$tcp/rendezvous")"
    is 'a load balancer is told' 503 "$(status -X OPTIONS --request-target '*' "$tcp")"
    is 'the session is there' 'before the drain' "$(fetch "$tcp$path")"
    await_other_process "$pid"
    is 'the session has outlived the stop' 'before the drain' "$(fetch "$tcp$path")"
    is 'sessions are created' 201 "$(status -H "$text" -H "$client" --data x "$tcp/rendezvous")"
    check 'systemd had no reason to kill it' not grep -qi 'timed out\|timeout\|killing' \
        <<<"$(read_journal -u rendezvousd.service --since "@$began" -o cat)"

    set_flags ''
    pid=$(main_pid)
    check 'a reload' inside systemctl reload --no-block rendezvousd
    sleep 2
    is 'after 2 s it is the same process' "$pid" "$(main_pid)"
    inside systemctl kill --kill-who main --signal TERM rendezvousd.service
    # It waits for 20 s: the drain itself would take longer.
    await_other_process "$pid"
    is 'the session has outlived that too' 'before the drain' "$(fetch "$tcp$path")"
    explain "$before"
}

# await_other_process PID: waits until the server is active as another one.
await_other_process() {
    for _ in $(seq 200); do
        [ "$(main_pid)" = "$1" ] || ! are active rendezvousd.service >/dev/null || break
        sleep 0.1
    done
    check 'there is another process' not same "$1" "$(main_pid)"
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
    soon 'both are active' are active rendezvousd.service rendezvousd.socket
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
    check 'it restarts with the public socket' inside systemctl restart rendezvousd.socket
    soon 'all are active' are active rendezvousd.service rendezvousd.socket rendezvousd-admin.socket
    is '/health' 200 "$(status http://127.0.0.1:8091/health)"
    is 'sessions have outlived that too' 'before the operator came' "$(fetch "$tcp$path")"
    inside systemctl disable -q --now rendezvousd-admin.socket
    check 'and goes again' inside systemctl restart rendezvousd
    is 'afterwards' 000 "$(status http://127.0.0.1:8091/health)"
    explain "$before"
}

# Does what the unit says of Unix sockets.
share_directory() {
    inside sh -c 'echo "d /run/rendezvousd-direct 0770 root www-data" \
        >/etc/tmpfiles.d/rendezvousd-direct.conf
        systemd-tmpfiles --create rendezvousd-direct.conf
        mkdir -p /etc/systemd/system/rendezvousd-direct.service.d
        printf "[Service]\nSupplementaryGroups=www-data\nReadWritePaths=/run/rendezvousd-direct\n" \
            >/etc/systemd/system/rendezvousd-direct.service.d/override.conf
        systemctl daemon-reload'
}

unshare_directory() {
    inside sh -c 'rm -r /run/rendezvousd-direct /etc/tmpfiles.d/rendezvousd-direct.conf \
        /etc/systemd/system/rendezvousd-direct.service.d
        systemctl daemon-reload'
}

# Leaves the service that binds itself running, with the operator's socket of
# the other one enabled.
check_direct() {
    local before=$failed
    local path pid flags
    say 'the service that binds itself, where the operator'\''s socket is enabled'
    inside systemctl enable -q rendezvousd-admin.socket
    inside systemctl restart rendezvousd
    check 'that socket is open' are active rendezvousd-admin.socket
    share_directory
    flags='--listen 127.0.0.1:8090 --listen unix:/run/rendezvousd-direct/socket'
    set_flags "$flags --admin 127.0.0.1:8091"
    inside systemctl disable -q --now rendezvousd.service rendezvousd.socket
    check 'it starts' inside systemctl enable -q --now rendezvousd-direct.service
    check 'it is active' are active rendezvousd-direct.service
    check 'the others have gone' are inactive rendezvousd.service rendezvousd.socket rendezvousd-admin.socket
    path=$(open_session 'directly')
    is 'it answers' 'directly' "$(fetch "$tcp$path")"
    is 'www-data at its Unix socket' 200 "$(ask_as www-data /run/rendezvousd-direct/socket "$path")"
    pid=$(main_pid rendezvousd-direct.service)
    is 'a scrape' 200 "$(status http://127.0.0.1:8091/metrics)"
    check 'the operator'\''s socket does not start beside it' not inside systemctl start rendezvousd-admin.socket
    is 'another scrape' 200 "$(status http://127.0.0.1:8091/metrics)"
    check 'it is active all the while' are active rendezvousd-direct.service
    is 'process' "$pid" "$(main_pid rendezvousd-direct.service)"
    check 'and the other is not' are inactive rendezvousd.service rendezvousd.socket rendezvousd-admin.socket

    set_flags "$flags --admin unix:/run/rendezvousd-direct/admin"
    check 'restart, with another address for the operator' inside systemctl restart rendezvousd-direct.service
    is 'sessions outlive it' 'directly' "$(fetch "$tcp$path")"
    is 'www-data again' 200 "$(ask_as www-data /run/rendezvousd-direct/socket "$path")"
    is 'www-data scrapes' 200 "$(ask_as www-data /run/rendezvousd-direct/admin /metrics)"
    is 'who is not of its group' 'Permission denied' \
        "$(ask_as nobody /run/rendezvousd-direct/socket "$path")"
    check 'the sessions that it keeps are out of reach' same 'Permission denied' \
        "$(as www-data ls /run/rendezvousd/ 2>&1 | sed 's/.*: //')"
    check_sandbox rendezvousd-direct.service
    set_flags ''
    unshare_directory
    inside systemctl restart rendezvousd-direct.service
    explain "$before"
}

# From the service that binds itself to the other one.
check_change_back() {
    local before=$failed
    say 'back to the sockets'
    inside systemctl disable -q rendezvousd-direct.service
    check 'the other service takes over again' inside systemctl enable -q --now rendezvousd.service
    check 'with its sockets' are active rendezvousd.service rendezvousd.socket rendezvousd-admin.socket
    check 'and not beside this one' are inactive rendezvousd-direct.service
    is 'it answers' 404 "$(status "$tcp/rendezvous/none")"
    is 'a scrape' 200 "$(status http://127.0.0.1:8091/metrics)"
    inside systemctl disable -q --now rendezvousd-admin.socket
    inside systemctl restart rendezvousd
    explain "$before"
}
