#!/usr/bin/env bash
# The two-person flow, played with throw-away keys: ada trains and asks, bob and eve approve, a server with the gate
# judges every push, and a reader who trusts nobody proves what is in production.
#
#   ./demo.sh                   a bare repository in a new folder below $TMPDIR, removed at the end
#   ./demo.sh --keep FOLDER     in FOLDER, which must not exist; it stays
#   ./demo.sh --server URL      an empty repository that you made, with `gml hooks install --server` where it lives
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
keep= url=
while [ $# -gt 0 ]; do
    case $1 in
        --keep) keep=$2; shift 2 ;;
        --server) url=$2; shift 2 ;;
        *) echo "unknown argument $1" >&2; exit 2 ;;
    esac
done
if [ -n "$keep" ]; then
    mkdir "$keep"
    top=$(cd "$keep" && pwd)
else
    top=$(mktemp -d)
    trap 'rm -rf "$top"' EXIT
fi

say() { printf '\n== %s\n' "$*"; }
run() { printf '%s$ %s\n' "$who" "$*"; "$@"; }

# What must be refused: the demonstration ends where it is not.
refused() {
    printf '%s$ %s\n' "$who" "$*"
    local said
    if said=$("$@" 2>&1); then
        printf '%s\nthis was accepted and should not have been\n' "$said" >&2
        exit 1
    fi
    printf '%s\n' "$said" | grep 'gml: ' | sed 's/^remote: //; s/^/  refused: /'
}

# Who acts from here on: a clone of their own, a name, a key; nothing of your own configuration is used.
be() {
    who=$1
    export HOME="$top/home-$1" GIT_CONFIG_NOSYSTEM=1
    export GIT_AUTHOR_NAME="$1" GIT_AUTHOR_EMAIL="$1@example.org"
    export GIT_COMMITTER_NAME="$1" GIT_COMMITTER_EMAIL="$1@example.org"
    unset XDG_CONFIG_HOME GIT_CONFIG_GLOBAL SSH_AUTH_SOCK
    mkdir -p "$HOME"
    if [ ! -d "$top/$1" ]; then
        git -c init.defaultBranch=main clone -q "$url" "$top/$1" 2>/dev/null
        git -C "$top/$1" config gml.signingKey "$top/keys/$1"
    fi
    cd "$top/$1"
}

fetch() {
    run git fetch -q origin '+refs/heads/*:refs/remotes/origin/*' '+refs/gml/ledger:refs/gml/ledger'
}

say "four people, four keys; the reader's is known to nobody"
mkdir "$top/keys"
for name in ada bob eve; do
    ssh-keygen -q -t ed25519 -N '' -C "$name" -f "$top/keys/$name"
done
if [ -z "$url" ]; then
    url="$top/server.git"
    git init -q --bare -b main "$url"
    gml hooks install --server "$url"
fi

say "ada trains, registers, and puts version 1 into production: there is no policy yet"
be ada
git checkout -q -B main
cp "$here/train.py" .
git add train.py
git commit -q -m "train"
run python train.py 3
run gml registry register churn --run @ --path model
run gml registry promote churn 1 --to Production

say "the team protects Production"
run gml registry protect Production --approvers ada,bob,eve --threshold 2 --from Staging \
    --person "ada=$top/keys/ada.pub" --person "bob=$top/keys/bob.pub" --person "eve=$top/keys/eve.pub" \
    --check "metrics.auc >= champion.metrics.auc - 0.005" --formats data
run git push -q origin main gml/registry refs/gml/ledger

say "a better model: registered, staged, proposed"
run python train.py 9
run gml registry register churn --run @ --path model
run gml registry promote churn 2 --to Staging
run gml registry promote churn 2 --to Production -m "six points better"
run git log -1 --format=%B gml/propose/churn-2-production-2
run git push -q origin gml/registry refs/gml/ledger gml/propose/churn-2-production-2

say "ada cannot approve what she asked for, nor push it past the server"
refused gml registry approve churn 2 --to Production
refused git push origin gml/propose/churn-2-production-2:gml/registry

say "bob approves, in his clone"
be bob
fetch
run gml registry approve churn 2 --to Production -m "checked on June"
run git push -q origin gml/propose/churn-2-production-2
refused gml registry merge churn 2 --to Production

say "eve approves and merges, in hers"
be eve
fetch
run gml registry approve churn 2 --to Production
run gml registry merge churn 2 --to Production
run git push origin gml/registry

say "a reader who trusts nobody proves it offline"
be reader
fetch
run git fetch -q origin 'refs/tags/*:refs/tags/*'
run gml registry verify churn Production
run gml registry blame churn Production
run gml registry audit
run git tag
