# gml registry: judges the pull requests into @BRANCH@ and makes the tags of what was merged.
# Only git objects are read; nothing of a pull request is checked out or run.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "gitml==@VERSION@"
export PATH="$work/venv/bin:$PATH"
git init -q "$work/clone"
cd "$work/clone"
git config user.name "gml registry"
git config user.email "gml-registry@localhost"
git config credential.helper '!f() { echo username=gml; echo "password=$GML_FORGE_TOKEN"; }; f'
git remote add origin "$1"
git fetch -q origin '+refs/heads/@BRANCH@:refs/remotes/origin/@BRANCH@'
git fetch -q origin '+refs/gml/ledger*:refs/gml/ledger*' 'refs/tags/gml/*:refs/tags/gml/*'
if [ -n "${GML_SERVICE_KEY:-}" ]; then
    (umask 077 && printf '%s\n' "$GML_SERVICE_KEY" > "$work/service")
    ssh-keygen -y -f "$work/service" > "$work/service.pub"
    set -- "$1" --key "$work/service"
fi
shift
failed=0
gml registry judge --forge @FORGE@ "$@" || failed=$?
gml registry tags --push origin || failed=$?
exit "$failed"
