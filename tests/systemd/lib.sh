# shellcheck shell=bash
# How checks are reported, and what they ask of the container. Sourced by run.

# check WHAT COMMAND...: the command succeeds; what it says is shown if not.
check() {
    local what=$1 said
    shift
    if said=$("$@" 2>&1); then
        printf 'ok     %s\n' "$what"
        passed=$((passed + 1))
    else
        printf 'FAILED %s\n' "$what"
        [ -z "$said" ] || sed 's/^/         /' <<<"$said" | tail -n 20
        failed=$((failed + 1))
    fi
}

# soon WHAT COMMAND...: the command succeeds, if not now then in a while.
soon() {
    local what=$1 end=$(($(now) + 60000))
    shift
    until "$@" >"$work/soon" 2>&1 || [ "$(now)" -gt "$end" ]; do
        sleep 0.2
    done
    check "$what" "$@"
}

# is WHAT EXPECTED FOUND
is() {
    check "$1: $2" same "$2" "$3"
}

same() {
    [ "$1" = "$2" ] || { echo "found: $2"; return 1; }
}

not() {
    ! "$@"
}

# took SINCE, in milliseconds
took() {
    printf '         after %s ms\n' $(($(now) - $1))
}

now() {
    date +%s%3N
}

# curl in the container's network; --max-time comes before.
fetch() {
    nsenter -t "$leader" -n curl -sS --max-time "${patience:-30}" "$@" </dev/null
}

status() {
    fetch -o /dev/null -w '%{http_code}' "$@" 2>/dev/null
}

tcp=http://127.0.0.1:8090
text='Content-Type: text/plain'
# As a proxy says it; without, no quota applies and a warning says so.
client='X-Forwarded-For: 192.0.2.1'

socket() {
    echo "/proc/$leader/root/run/rendezvousd.sock"
}

# Opens a session and prints its path.
open_session() {
    fetch -o /dev/null -D - -H "$text" -H "$client" --data "$1" "$tcp/rendezvous" |
        tr -d '\r' | sed -n 's#^[Ll]ocation: \(http://[^/]*\)\{0,1\}##p'
}

property() {
    inside systemctl show --value -p "$1" "${2:-rendezvousd.service}"
}

main_pid() {
    property MainPID "${1:-rendezvousd.service}"
}

# Whether units are in the state that `systemctl is-active` calls so.
are() {
    local state=$1 unit
    shift
    for unit in "$@"; do
        same "$state" "$(inside systemctl is-active "$unit")" || return
    done
}

in_status() {
    inside sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" | tr '\t' ' '
}

# read_journal ARGUMENT...: once everything that has been logged is in it
read_journal() {
    inside journalctl --sync
    inside journalctl -q --no-pager "$@"
}

# Lines of the server itself with priorities FROM..TO.
journal() {
    read_journal -u "${3:-rendezvousd.service}" _TRANSPORT=stdout -p "$1..$2" -o cat
}

# A time for --since: everything that has been logged is from before.
journal_now() {
    inside journalctl --sync
    date +@%s.%6N
}

say() {
    printf '\n%s\n' "$1"
}

# as USER COMMAND...: in the container
as() {
    local user=$1
    shift
    inside setpriv --reuid "$user" --regid "$(inside id -g "$user")" --clear-groups "$@"
}

# ask_as USER SOCKET PATH: the status of an answer at a Unix socket of the
# container, or what went wrong.
ask_as() {
    as "$1" perl -MIO::Socket::UNIX -e '
        my $socket = IO::Socket::UNIX->new($ARGV[0]) or die "$!\n";
        print $socket "GET $ARGV[1] HTTP/1.0\r\nHost: localhost\r\n\r\n";
        print((split / /, <$socket>)[1]);' "$2" "$3" 2>&1
}

set_flags() {
    inside sed -i "s|^RENDEZVOUSD_FLAGS=.*|RENDEZVOUSD_FLAGS=\"$1\"|" /etc/default/rendezvousd
}

# Every file but what others write meanwhile; /run/private and those in /run/systemd
# are systemd's own: for all services with DynamicUser=, for journalctl --sync, for
# systemd-run.
files() {
    inside find / '(' -path /proc -o -path /sys -o -path /dev -o -path /var/log/journal \
        -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/log/apt -o -path /var/cache -o -path /run/systemd/journal/streams \
        -o -name 'systemd-private-*-systemd-logind.service-*' ')' -prune -o -print |
        grep -vx '/run/private\|/run/systemd/\(dynamic-uid\|journal/synced\|transient\)\|/var/log/dpkg.log' | sort
}
