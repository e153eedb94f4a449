# Sourced by the scripts next to it: goes to the repository's root, and finds a Python that is new enough (PYTHON=... chooses one).

cd "$(dirname "$0")/.." || exit 1

say() {
  printf '%s\n' "$*" >&2
}

find_python() {
  for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    # A version manager's shim exists without its interpreter: only running it tells.
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      printf '%s\n' "$candidate"
      return 0
    fi
  done
  say "Postern needs Python 3.11 or newer, and found none (looked for: ${PYTHON:-python3.13 python3.12 python3.11 python3 python})."
  say "Install it (Debian and Ubuntu: apt install python3 python3-venv; Fedora: dnf install python3), or name one: PYTHON=/path/to/python3.12 $0"
  return 1
}

# prepare LOCK...: .venv holds exactly these lock files and this project; nothing happens when it already does.
prepare() {
  python=$(find_python) || exit 1
  # An environment that exists keeps its Python.
  if [ -z "${PYTHON:-}" ] && .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    python=$(.venv/bin/python -c 'import os, sys; print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))')
  fi
  "$python" -m supervisor_plugin.up.install .venv "$@" --project . || exit 1
}
