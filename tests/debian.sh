# shellcheck shell=bash
# Root file systems of Debian. To be sourced from the top.

# make_root CODENAME DIRECTORY PACKAGE...: from the machine's own mirrors, which
# have every release. Says what went wrong and fails.
make_root() {
    local codename=$1 root=$2 own sources said
    shift 2
    [ -d "$root" ] && return
    own=$(. /etc/os-release && echo "$VERSION_CODENAME")
    sources=$(apt-get indextargets --format \
        '$(ORIGIN) deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sed -n "s/ $own/ $codename/; / $codename/s/^Debian //p")
    [ -n "$sources" ] || { echo "no mirror of Debian $own among the sources of apt"; return 1; }
    echo "making a root file system of Debian $codename"
    rm -rf "$root.new" && mkdir -p "${root%/*}"
    said=$(mmdebstrap --quiet --variant=minbase --include="$*" \
        "$codename" "$root.new" - <<<"$sources" 2>&1) ||
        { tail <<<"$said"; echo "cannot make $root"; return 1; }
    mv "$root.new" "$root"
}
