# shellcheck shell=bash
# To be sourced: install_synapse ENVIRONMENT puts Synapse there, as pinned beside
# this file, where the next run finds it.

install_synapse() {
    local requirements
    requirements=$(dirname "${BASH_SOURCE[0]}")/requirements.txt
    ! cmp -s "$requirements" "$1/installed" || return 0
    echo 'installing Synapse, which takes a minute'
    rm -rf "$1"
    python3 -c 'import ensurepip' 2>/dev/null || apt-get install -y -qq python3-venv
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r "$requirements"
    cp "$requirements" "$1/installed"
}
