# shellcheck shell=bash disable=SC2154
# Starts reverse proxies before rendezvousd, each with one of the whole
# configurations beside this file. To be sourced by a bash script:
#
#   proxies=$(mktemp -d)            # where they keep everything
#   trap 'stop_proxies; rm -rf "$proxies"' EXIT
#   install_proxies
#   start_homeserver                # prints the port of a stand-in
#   start_proxy nginx good 8090 8008
#                                   # prints the https port on 127.0.0.1
#
# The proxy is nginx, caddy, apache or haproxy; the variant good, hostile, extras,
# with nginx auth or with apache waf. Its host name is matrix.example.org, its certificate is of
# the authority in $proxies/tls/ca.pem.
#
# The configurations are what an operator has in place, with his ports and
# files; only these are changed, and what Debian has around such a file, like
# the http block of nginx.conf, is written here.

proxies_source=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

proxies_die() {
    echo "FAILED $*" >&2
    exit 1
}

# Debian's programs. Their services are not started: these run on ports, and in
# a directory, of their own.
install_proxies() {
    local missing=() tool
    for tool in nginx:nginx caddy:caddy apache2:apache2-bin haproxy:haproxy \
        openssl:openssl node:nodejs ip:iproute2; do
        command -v "${tool%:*}" >/dev/null || missing+=("${tool#*:}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "installing ${missing[*]}" >&2
    without_services "${missing[@]}" || proxies_die "cannot install ${missing[*]}"
}

# Apache's web application firewall and its usual rules.
install_firewall() {
    [ -e /usr/lib/apache2/modules/mod_security2.so ] && [ -e /usr/share/modsecurity-crs ] && return
    echo 'installing mod_security' >&2
    without_services libapache2-mod-security2 modsecurity-crs || proxies_die 'cannot install mod_security'
}

# Debian's way to say that no service starts, for as long as it takes; a file
# of the machine's own stays.
without_services() (
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
    fi
    apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            -o DPkg::Lock::Timeout=300 "$@" >/dev/null
)

# An authority and a certificate for matrix.example.org in $proxies/tls.
make_certificate() {
    local tls=$proxies/tls
    [ -e "$tls/haproxy.pem" ] && return
    # Workers of nginx and Apache are nobody.
    chmod 755 "$proxies" && mkdir -p "$tls"
    {
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
            -subj '/CN=Proxies of a test' -addext 'keyUsage=critical,keyCertSign' \
            -keyout "$tls/ca.key" -out "$tls/ca.pem" &&
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
                -subj /CN=matrix.example.org -keyout "$tls/privkey.pem" -out "$tls/request" &&
            openssl x509 -req -in "$tls/request" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" \
                -CAcreateserial -days 2 -out "$tls/certificate.pem" -extfile - \
                <<<'subjectAltName=DNS:matrix.example.org'
    } 2>"$tls/log" || proxies_die "openssl: $(cat "$tls/log")"
    cat "$tls/certificate.pem" "$tls/ca.pem" >"$tls/fullchain.pem"
    cat "$tls/fullchain.pem" "$tls/privkey.pem" >"$tls/haproxy.pem"
}

# A port that nothing listens on, and that the kernel gives to nobody who
# connects: whoever listens there may stop for a while.
free_port() {
    node -e 'const listen = () => {
        const port = 20000 + Math.floor(Math.random() * 12000)
        const s = require("net").createServer().on("error", listen)
        s.listen(port, "127.0.0.1", () => { console.log(port); s.close() })
    }
    listen()'
}

# await_port PORT DIRECTORY: until somebody listens; else says what the log says.
await_port() {
    for _ in $(seq 100); do
        (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        kill -0 "$(cat "$2/pid")" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$2"/*log >&2
    proxies_die "$(basename "$2") does not start"
}

# in_background DIRECTORY COMMAND...: stop_proxies finds it by its file.
in_background() {
    local directory=$1
    shift
    "$@" </dev/null >"$directory/log" 2>&1 &
    echo $! >"$directory/pid"
}

# start_homeserver [silent]: a homeserver of a few answers, which advertises QR
# sign-in unless it is silent; prints its port.
start_homeserver() {
    local directory=$proxies/homeserver-${1-} port
    mkdir -p "$directory"
    port=$(free_port)
    in_background "$directory" node "$proxies_source/homeserver.mjs" "$port" "$@"
    await_port "$port" "$directory"
    echo "$port"
}

# source_of NAME VARIANT: the operator's file.
source_of() {
    local -A files=([nginx]=nginx.conf [caddy]=Caddyfile [apache]=apache.conf
        [haproxy]=haproxy.cfg)
    echo "$proxies_source/$2/${files[$1]}"
}

# The same with this run's ports and files.
configuration() {
    sed -e "s/127\.0\.0\.1:8090/127.0.0.1:$backend/" \
        -e "s/127\.0\.0\.1:8008/127.0.0.1:$homeserver/" \
        -e "s#/run/rendezvousd\.sock#$proxies/socket#" \
        -e "s#/etc/letsencrypt/live/matrix\.example\.org#$proxies/tls#" \
        -e "s#/etc/haproxy/matrix\.example\.org\.pem#$proxies/tls/haproxy.pem#" \
        -e "s#/var/cache/\(nginx\|modsecurity\)#$directory#" \
        -e "s/listen 443/listen 127.0.0.1:$port/" \
        -e "s/bind :443/bind 127.0.0.1:$port/" \
        -e "s/\*:443/*:$port/" "$(source_of "$name" "$variant")"
}

# start_proxy NAME VARIANT RENDEZVOUS-PORT HOMESERVER-PORT [PORT]
start_proxy() {
    local name=$1 variant=$2 backend=$3 homeserver=$4 port=${5:-}
    local directory=$proxies/$name-$variant
    make_certificate
    mkdir -p "$directory"
    [ -n "$port" ] || port=$(free_port)
    "start_$name"
    await_port "$port" "$directory"
    echo "$port"
}

start_nginx() {
    mkdir -p "$directory/snippets"
    sed -n '/location .*(rendezvous|/,/}/{/proxy_set_header/p}' "$proxies_source/good/nginx.conf" \
        >"$directory/snippets/rendezvous-headers.conf"
    configuration >"$directory/site.conf"
    local user=
    [ "$(id -u)" != 0 ] || user='user nobody nogroup;'
    cat >"$directory/main.conf" <<-END
	$user
	worker_processes 2;
	daemon off;
	pid nginx.pid;
	events { worker_connections 1024; }
	http {
	    access_log off;
	    client_body_temp_path body;
	    proxy_temp_path proxy;
	    fastcgi_temp_path fastcgi;
	    uwsgi_temp_path uwsgi;
	    scgi_temp_path scgi;
	    include site.conf;
	}
	END
    in_background "$directory" nginx -p "$directory" -c main.conf -e stderr
}

start_caddy() {
    local plain
    plain=$(free_port)
    {
        printf '{\n admin off\n auto_https disable_redirects\n default_bind 127.0.0.1\n'
        printf ' https_port %s\n http_port %s\n}\n' "$port" "$plain"
        configuration |
            sed "s#^matrix.example.org {#&\n tls $proxies/tls/fullchain.pem $proxies/tls/privkey.pem#"
    } >"$directory/Caddyfile"
    HOME=$directory XDG_DATA_HOME=$directory XDG_CONFIG_HOME=$directory in_background "$directory" \
        caddy run --config "$directory/Caddyfile" --adapter caddyfile
}

start_apache() {
    local module user= firewall=
    [ "$variant" != waf ] || firewall='unique_id security2'
    [ "$(id -u)" != 0 ] || user='User nobody
Group nogroup'
    {
        for module in mpm_event authz_core ssl http2 proxy proxy_http headers setenvif env filter \
            deflate brotli substitute reqtimeout $firewall; do
            echo "LoadModule ${module}_module /usr/lib/apache2/modules/mod_$module.so"
        done
        cat <<-END
	ServerRoot $directory
	DefaultRuntimeDir $directory
	PidFile apache.pid
	ErrorLog $directory/error.log
	$user
	Listen 127.0.0.1:$port
	Timeout 300
	KeepAlive On
	KeepAliveTimeout 5
	RequestReadTimeout header=20-40,minrate=500
	RequestReadTimeout body=10,minrate=500
	AddOutputFilterByType DEFLATE text/html text/plain text/xml text/css
	END
        configuration
    } >"$directory/apache.conf"
    in_background "$directory" apache2 -d "$directory" -f "$directory/apache.conf" -DFOREGROUND
}

start_haproxy() {
    configuration >"$directory/haproxy.cfg"
    in_background "$directory" haproxy -db -f "$directory/haproxy.cfg"
}

# Proxies in a row, as chains.mjs has them, on fixed ports; files are in
# $proxies/chains.
start_chains() {
    local name directory file run=$proxies/chains
    mkdir -p "$run"
    for name in nginx caddy apache haproxy; do
        directory=$proxies/chains-$name
        mkdir -p "$directory"
        file=$directory/$(basename "$(source_of "$name" chains)")
        sed "s#/run/chains#$run#" "$(source_of "$name" chains)" >"$file"
        case $name in
            nginx) in_background "$directory" nginx -p "$directory" -c "$file" -e stderr ;;
            caddy) HOME=$directory in_background "$directory" \
                caddy run --config "$file" --adapter caddyfile ;;
            apache) in_background "$directory" apache2 -d "$directory" -f "$file" -DFOREGROUND ;;
            haproxy) in_background "$directory" haproxy -db -f "$file" ;;
        esac
    done
    await_port 8201 "$proxies/chains-nginx"
    await_port 8202 "$proxies/chains-caddy"
    await_port 8103 "$proxies/chains-apache"
    await_port 8203 "$proxies/chains-haproxy"
}

# Everything that was started here, and what it has started in turn.
stop_proxies() {
    local file pids=()
    for file in "$proxies"/*/pid; do
        [ ! -e "$file" ] || pids+=("$(cat "$file")")
    done
    [ ${#pids[@]} -gt 0 ] || return 0
    kill "${pids[@]}" 2>/dev/null
    for _ in $(seq 50); do
        kill -0 "${pids[@]}" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "${pids[@]}" 2>/dev/null
    return 0
}
