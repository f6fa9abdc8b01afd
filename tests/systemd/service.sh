# shellcheck shell=bash
# Checks of the service and its sockets as they are installed. Sourced by run.

check_units() {
    say 'the units'
    local unit threshold
    for unit in $units; do
        check "systemd-analyze verify $unit" same '' \
            "$(inside systemd-analyze verify --man=no "$unit" 2>&1)"
    done
    for unit in rendezvousd.service:3 rendezvousd-direct.service:11; do
        threshold=${unit#*:}
        unit=/usr/lib/systemd/system/${unit%:*}
        inside systemd-analyze security --no-pager --offline=yes --threshold="$threshold" "$unit" \
            >"$work/security" 2>&1
        is "systemd-analyze security --threshold=$threshold $unit exits with" 0 $?
        sed -n 's/^→ */         /p' "$work/security"
    done
}

check_sockets() {
    say 'the sockets'
    local path
    path=$(open_session 'over TCP')
    is 'TCP: a session opens and is read' 'over TCP' "$(fetch "$tcp$path")"
    is 'Unix: the same session' 'over TCP' "$(fetch --unix-socket "$(socket)" "http://localhost$path")"
    is 'Unix: a session opens' 201 \
        "$(status --unix-socket "$(socket)" -H "$text" -H "$client" --data x http://localhost/rendezvous)"
}

# sandbox UNIT: what holds of both services
check_sandbox() {
    local unit=$1 pid field path
    say "the sandbox of $unit"
    pid=$(main_pid "$unit")
    for field in CapInh CapPrm CapEff CapBnd CapAmb; do
        is "$field" 0000000000000000 "$(in_status "$pid" $field)"
    done
    is 'NoNewPrivs' 1 "$(in_status "$pid" NoNewPrivs)"
    is 'Seccomp, of every thread' 2 "$(inside sh -c "cat /proc/$pid/task/*/status" |
        sed -n 's/^Seccomp:\t//p' | sort -u)"
    check 'its user is not root' not grep -qw 0 <<<"$(in_status "$pid" Uid)"
    for field in mnt user ipc; do
        check "a $field namespace of its own" not same \
            "$(inside readlink /proc/1/ns/$field)" "$(inside readlink "/proc/$pid/ns/$field")"
    done
    for path in / /etc /usr /var /home /root /run /opt; do
        check "read-only for it: $path" same 'Read-only file system' \
            "$(inside nsenter -t "$pid" -m touch "$path/probe" 2>&1 | sed 's/.*: //')"
    done
    check 'it may write below /run/rendezvousd' inside nsenter -t "$pid" -m \
        sh -c 'touch /run/rendezvousd/probe && rm /run/rendezvousd/probe'
    is 'no core dumps' '0 0' "$(inside awk '/^Max core/ { print $5, $6 }' "/proc/$pid/limits")"
    # Where it reads memory.max.
    check 'it can look into its cgroup' inside nsenter -t "$pid" -m \
        test -r "/sys/fs/cgroup$(inside sed -n 's/^0:://p' "/proc/$pid/cgroup")/cgroup.procs"
    is 'open files' '5000 5000' "$(inside awk '/^Max open files/ { print $4, $5 }' "/proc/$pid/limits")"
    is 'MemoryMax and TasksMax' '268435456 300' "$(property MemoryMax "$unit") $(property TasksMax "$unit")"
}

check_network() {
    local pid
    pid=$(main_pid)
    check 'a network namespace of its own' not same \
        "$(inside readlink /proc/1/ns/net)" "$(inside readlink "/proc/$pid/ns/net")"
    is 'network interfaces' lo "$(inside awk -F: 'NR > 2 { gsub(/ /, "", $1); print $1 }' "/proc/$pid/net/dev")"
    is 'sockets bound in it' 0 "$(inside sh -c "cat /proc/$pid/net/tcp /proc/$pid/net/tcp6" | grep -c ' 0A ')"
}

check_journal() {
    say 'the journal'
    check 'it says that it is ready, as information' grep -q 'ready on' <<<"$(journal 6 6)"
    check 'it names both sockets' grep -q '127.0.0.1:8090.*/run/rendezvousd.sock\|/run/rendezvousd.sock.*127.0.0.1:8090' \
        <<<"$(journal 6 6)"
    check 'it says which limits are in force' grep -q 'limits: 10000 sessions' <<<"$(journal 6 6)"
    check 'nothing to warn of with the flags as installed' same '' "$(journal 0 4)"
    check 'priorities are the journal'\''s and not in the lines' not grep -q '^<[0-7]>' <<<"$(journal 0 7)"
    check 'no time of its own in the lines' not grep -q '^20[0-9][0-9]-' <<<"$(journal 0 7)"
    check 'no session addresses' not grep -q 'rendezvous/[A-Za-z0-9_-]\{22\}' <<<"$(journal 0 7)"
}

check_kill() {
    local before=$failed
    say 'kill -9'
    local pid began
    pid=$(main_pid)
    began=$(now)
    inside systemctl kill --kill-who main --signal KILL rendezvousd.service
    is 'the next request is answered' 404 "$(status "$tcp/rendezvous/none")"
    took "$began"
    check 'by another process' not same "$pid" "$(main_pid)"
    check 'which is active' are active rendezvousd.service rendezvousd.socket
    explain "$before"
}

check_watchdog() {
    local before=$failed
    say 'the watchdog: kill -STOP'
    local pid began path
    is 'WatchdogUSec' 10s "$(property WatchdogUSec)"
    path=$(open_session 'before the stall')
    pid=$(main_pid)
    began=$(now)
    inside systemctl kill --kill-who main --signal STOP rendezvousd.service
    is 'a request during the stall is answered' 404 "$(patience=60 status "$tcp/rendezvous/none")"
    took "$began"
    check 'by another process' not same "$pid" "$(main_pid)"
    is 'sessions have outlived it' 'before the stall' "$(fetch "$tcp$path")"
    check 'systemd says why' grep -q 'Watchdog timeout' <<<"$(read_journal -u rendezvousd.service)"
    sleep 11
    pid=$(main_pid)
    sleep 11
    is 'left alone it stays, process' "$pid" "$(main_pid)"
    explain "$before"
}

check_restarts() {
    local before=$failed
    say "$restarts restarts and an upgrade while $load clients poll and write"
    local clients pid began
    began=$(date +%s)
    mkfifo "$work/go"
    nsenter -t "$leader" -n "$target/debug/examples/systemd-clients" \
        "$load" 127.0.0.1:8090 "$(socket)" <"$work/go" >"$work/clients" 2>&1 &
    clients=$!
    exec 9>"$work/go"
    sleep 1
    for ((i = 1; i <= restarts; i++)); do
        inside systemctl restart rendezvousd || check "restart $i" false
        sleep 0.2
    done
    pid=$(main_pid)
    check 'the upgrade' apt_install 2
    check 'it has restarted the server' not same "$pid" "$(main_pid)"
    sleep 1
    exec 9>&-
    wait "$clients"
    is 'every request answered, every session alive, every write kept: exit status' 0 $?
    sed 's/^/         /' "$work/clients" | tail -n 12
    check 'service and socket are active' are active rendezvousd.service rendezvousd.socket
    check 'nothing of it is worth a warning' same '' \
        "$(inside journalctl -q --no-pager -u rendezvousd.service _TRANSPORT=stdout -p 4 --since "@$began" -o cat)"
    explain "$before"
}

check_boot() {
    local before=$failed
    say 'a reboot'
    inside systemctl reboot
    wait "$nspawn"
    start
    check 'service and socket are active' are active rendezvousd.service rendezvousd.socket
    is 'it answers' 404 "$(status "$tcp/rendezvous/none")"
    explain "$before"
}
